"""The objects of the API as types: bodies are checked against them, answers are documented and tested with them."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from gdos.model.manifest import Name, Version
from gdos.model.order import Dependency, GateKind
from gdos.model.placement import Placement
from gdos.model.rollout import Strategy

T = TypeVar("T")
EnvName = Annotated[str, Meta(pattern=r"^[^=\x00]+$", extra={"what": "a variable's name without ="})]
Env = dict[EnvName, str]
Count = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(max_length=10_000)]
Labels = dict[Name, Annotated[str, Meta(max_length=200)]]
StateName = Literal[
    "pending", "deploying", "stopped", "starting", "running", "stopping", "backoff", "failed", "completed", "upgrading",
    "destroying",
]  # fmt: skip
TaskState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
RoleName = Literal["viewer", "operator", "admin"]


class Listed(msgspec.Struct, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None


class Node(msgspec.Struct):
    id: str
    name: str
    hostname: str
    state: Literal["online", "offline", "planned"]
    os: str
    arch: str
    labels: dict[str, str]
    address: str
    version: str
    last_seen: str | None
    joined_at: str
    allow: list[str]
    work_dir: str
    facts: dict[str, Any]
    metrics: dict[str, float] | None


class NodeChange(msgspec.Struct):
    name: Name | None = None
    labels: Labels | None = None


class Package(msgspec.Struct):
    name: str
    version: str
    sha256: str
    size: int
    os: str
    description: str
    uploaded_at: str
    uploaded_by: str
    in_use: bool


class PackageDetail(Package):
    manifest: dict[str, Any]


class Uploaded(PackageDetail):
    warnings: list[str]


class System(msgspec.Struct):
    id: str
    name: str
    description: str
    modules: int
    instances: int
    created_at: str


class SystemNew(msgspec.Struct):
    name: Name
    description: Text = ""


class SystemChange(msgspec.Struct, omit_defaults=True):
    name: Name | msgspec.UnsetType = msgspec.UNSET
    description: Text | msgspec.UnsetType = msgspec.UNSET


class ModuleConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the module changes in its package."""

    env: Env = {}


class DependencyView(msgspec.Struct):
    module: str
    gate: GateKind
    target: str
    timeout: int


class Module(msgspec.Struct):
    id: str
    system: str
    system_id: str
    name: str
    package: str
    version: str
    previous_version: str | None
    count: int
    depends_on: list[DependencyView]
    config: ModuleConfig
    placement: dict[str, Any]
    strategy: dict[str, Any]
    external: dict[str, Any] | None
    instances: int
    created_at: str


class ModuleNew(msgspec.Struct):
    name: Name
    package: Name
    version: Version
    count: Count = 1
    depends_on: list[Name | Dependency] = []
    config: ModuleConfig = ModuleConfig()
    placement: Placement = Placement()
    strategy: Strategy = Strategy()


class ModuleChange(msgspec.Struct, omit_defaults=True):
    name: Name | msgspec.UnsetType = msgspec.UNSET
    package: Name | msgspec.UnsetType = msgspec.UNSET
    version: Version | msgspec.UnsetType = msgspec.UNSET
    count: Count | msgspec.UnsetType = msgspec.UNSET
    depends_on: list[Name | Dependency] | msgspec.UnsetType = msgspec.UNSET
    config: ModuleConfig | msgspec.UnsetType = msgspec.UNSET
    placement: Placement | msgspec.UnsetType = msgspec.UNSET
    strategy: Strategy | msgspec.UnsetType = msgspec.UNSET


class WantedState(msgspec.Struct):
    run: Literal["running", "stopped"]
    present: bool
    version: str
    revision: int


class Instance(msgspec.Struct):
    id: str
    name: str
    system: str
    module: str
    node: str
    node_id: str
    state: StateName
    reachable: bool
    reason: str
    pid: int | None
    started_at: str | None
    package: str
    version: str
    previous_version: str | None
    restarts: int
    kind: Literal["service", "job", "cron"]
    next_run: str | None
    is_adopted: bool
    is_stale: bool
    ports: dict[str, int]
    reported_at: str | None
    wanted: WantedState
    metrics: dict[str, float] | None
    log_tail: list[str]


class DeployNew(msgspec.Struct):
    """`system` may be left out when `module` is an id or 'system/name'; `node` is a name, an id or 'auto'."""

    module: Annotated[str, Meta(min_length=1, max_length=200)]
    system: str = ""
    node: Annotated[str, Meta(min_length=1, max_length=200)] = "auto"
    count: Count = 1
    run: bool = True
    env: Env = {}
    dry_run: bool = False


class Action(msgspec.Struct):
    """`version`: where an upgrade goes, `strategy`: how. `run` is for jobs and schedules: once, now.

    `dry_run`: the answer is the task as it would be, without an id, and nothing is done.
    """

    action: Literal["start", "run", "stop", "restart", "destroy", "upgrade", "rollback"]
    version: Version | None = None
    strategy: Strategy | None = None
    dry_run: bool = False


class Event(msgspec.Struct):
    at: str
    kind: str
    state: str
    reason: str
    who: str


class TaskStep(msgspec.Struct):
    name: str
    target: str
    state: TaskState
    message: str
    phase: str
    waits_for: list[str]
    finished_at: str | None


class Task(msgspec.Struct):
    id: str
    kind: str
    target: str
    state: TaskState
    progress: float
    is_paused: bool
    note: str
    steps: list[TaskStep]
    created_by: str
    created_at: str
    finished_at: str | None
    error: str | None


class Run(msgspec.Struct):
    """One run that is over. `due_at`: when a schedule asked for it; `is_asked`: it ended because it was to."""

    number: int
    started_at: str
    ended_at: str
    due_at: str | None
    duration_s: float
    code: int | None
    signal: int | None
    reason: str
    is_oom: bool
    is_asked: bool
    skipped: bool
    log: str
    log_tail: list[str]


class Why(msgspec.Struct):
    """The verdict is one sentence; the timeline is newest first."""

    verdict: str
    instance: Instance
    timeline: list[Event]


class Login(msgspec.Struct):
    user: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(max_length=1000)]
    cookie: bool = False


class SignedIn(msgspec.Struct):
    user: str
    role: RoleName
    token: str | None
    expires_at: str


class Me(msgspec.Struct):
    name: str
    role: RoleName


class Join(msgspec.Struct):
    """What a worker says once, with a join token as its bearer token."""

    name: Annotated[str, Meta(max_length=100)] = ""
    facts: dict[str, Any] = {}


class Joined(msgspec.Struct):
    node: str
    name: str
    credential: str


class JoinTokenNew(msgspec.Struct):
    """`uses`: null for any number. `ttl`: a duration such as '24h'; null for no end."""

    name: Annotated[str, Meta(max_length=100)] = ""
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    ttl: str | None = "24h"


class JoinTokenMade(msgspec.Struct):
    id: str
    name: str
    token: str
    uses_left: int | None
    expires_at: str | None


class JoinToken(msgspec.Struct):
    id: str
    name: str
    uses_left: int | None
    created_by: str
    created_at: str
    expires_at: str | None


class TokenNew(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    role: RoleName = "viewer"
    ttl: str | None = "90d"


class TokenMade(msgspec.Struct):
    id: str
    name: str
    role: RoleName
    token: str
    expires_at: str | None


class Token(msgspec.Struct):
    id: str
    name: str
    role: RoleName
    created_by: str
    created_at: str
    used_at: str | None
    expires_at: str | None


class AuditLine(msgspec.Struct):
    number: int
    at: str
    who: str
    address: str
    action: str
    object: str
    detail: str
    result: str
    chain: str


class Series(msgspec.Struct):
    """`points[name][i]` is the value `i` steps after `start` (milliseconds); null is a gap."""

    start: int
    step_s: int
    points: dict[str, list[float | None]]


class LogFileInfo(msgspec.Struct):
    name: str
    size: int
    modified_at: str | None


class Process(msgspec.Struct):
    pid: int
    parent: int
    command: str
    rss: int
    started_at: str | None


class ProblemItem(msgspec.Struct):
    path: str
    message: str


class ProblemBody(msgspec.Struct):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[ProblemItem]


class ListQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str = ""
    sort: str = ""
    q: str = ""
