"""Further objects of the API: configuration values, system files, adopted services. See shapes.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gdos.master.api.shapes import EnvName, Task
from gdos.model.manifest import Name


class Value(msgspec.Struct):
    """A configuration value; that of a secret is never shown."""

    name: str
    value: str | None
    is_secret: bool


class EffectiveValue(Value):
    origin: Literal["system", "module", "instance"]


class Values(msgspec.Struct):
    """`values` are the scope's own, `effective` is what holds there; `number` is the newest version."""

    scope: str
    level: Literal["system", "module", "instance"]
    number: int
    values: list[Value]
    effective: list[EffectiveValue]


ValueText = Annotated[str, Meta(max_length=65536)]


class ValuesChange(msgspec.Struct):
    values: dict[EnvName, ValueText] = {}
    secrets: dict[EnvName, ValueText] = {}
    unset: list[str] = []
    note: Annotated[str, Meta(max_length=500)] = ""


class ValuesRevert(msgspec.Struct):
    number: Annotated[int, Meta(ge=0)]


class ValueDifference(msgspec.Struct):
    name: str
    kind: Literal["added", "changed", "removed"]
    before: str | None
    after: str | None
    is_secret: bool


class ValuesVersion(msgspec.Struct):
    number: int
    at: str
    who: str
    note: str
    changes: list[ValueDifference]


class ApplyNew(msgspec.Struct):
    """`file`: a system file as data (docs/systems.md). `prune`: what it does not name goes. `dry_run`: plan only."""

    file: dict[str, Any]
    prune: bool = False
    dry_run: bool = False


class Difference(msgspec.Struct):
    path: str
    kind: Literal["added", "changed", "removed", "restart"]
    before: Any
    after: Any


class Applied(msgspec.Struct):
    """`task` is null when nothing has to be done on a node."""

    system: str
    changes: list[Difference]
    task: Task | None


class AdoptionNew(msgspec.Struct):
    """`external`: how to find the service and, where it may be managed, how to start and stop it (docs/adopt.md)."""

    system: Name
    module: Name
    node: Annotated[str, Meta(min_length=1, max_length=200)]
    external: dict[str, Any]


class MatchNew(msgspec.Struct):
    external: dict[str, Any]


class CandidateView(msgspec.Struct):
    """A process that could be adopted. `instance`: the one that it belongs to already."""

    pid: int
    name: str
    user: str
    command: str
    exe: str
    cwd: str
    ports: list[int]
    unit: str
    started_at: str | None
    instance: str


class Matched(msgspec.Struct):
    count: int
    verdict: str
    found: list[CandidateView]
