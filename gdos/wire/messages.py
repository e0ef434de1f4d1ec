"""One type per message, tagged by name; MESSAGES says who sends it and whether a newer one may replace it.

JSON, one message per WebSocket frame. Unknown fields are ignored, so that either side may be newer.
Times: `at` is milliseconds since 1970, UTC, by the sender's clock.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gdos.model.manifest import Manifest
from gdos.model.wanted import Wanted

PROTOCOL = 1
"""Grows when an older peer could not follow any more; a worker of a newer protocol than the master's is refused."""
FRAME_MAX = 1 << 20
CHUNK_MAX = 64 << 10
"""Bytes of a log in one answer: small, so that no answer holds up a heartbeat."""


class Message(msgspec.Struct, kw_only=True, tag=True, tag_field="t", omit_defaults=True):
    """Base of all messages."""


# --- worker to master


class Hello(Message):
    """The first message. `run` is made at each start of a worker process and tells a clone from a reconnect."""

    protocol: int
    version: str
    run: str
    epoch: str  # of the reports' numbering
    revision: int  # the last wanted revision on the worker's disk
    work_dir: str
    hostname: str
    facts: dict[str, Any]
    labels: dict[str, str] = {}
    allow: list[str] = []


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of an instance that is over. `number` counts its starts, `due` is when a schedule asked for it.

    `skipped`: the schedule came while the run before was going on; nothing was started. Times: milliseconds since 1970.
    """

    number: int
    started_at: int
    ended_at: int
    due: int | None = None
    code: int | None = None
    signal: int | None = None
    reason: str = ""
    log: str = ""  # display name of its log, while that is kept
    log_tail: list[str] = []
    is_oom: bool = False
    is_asked: bool = False  # it ended because it was to be stopped
    skipped: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one instance has become. Sent again until acknowledged; a second copy changes nothing."""

    seq: int
    at: int
    instance: str
    state: str
    revision: int  # the wanted revision that this state answers
    event: str = ""
    reason: str = ""
    pid: int | None = None
    started_at: int | None = None
    restarts: int = 0
    sha256: str = ""
    is_settled: bool = False  # the worker has nothing left to do for that revision
    is_gone: bool = False  # destroyed: nothing of it is left on the node
    log_tail: list[str] = []
    run: Run | None = None  # the run that has just ended
    config: str = ""  # the configuration that the present process was started with
    staged: str = ""  # SHA-256 of the release that is ready beside the present one
    staged_error: str = ""  # why it is not
    next_due: int | None = None  # of a schedule


class Reports(Message):
    items: list[Report]


class WantedAck(Message):
    """The wanted list up to this revision is on the worker's disk."""

    revision: int


class Sample(Message):
    """One second of metrics, values in the order of model.metrics; a late one is replaced by the next."""

    at: int
    host: list[float]
    instances: dict[str, list[float]] = {}


class Answer(Message):
    """The answer to a request of the same id; `error` is a sentence with the stable `code` of its kind."""

    id: int
    data: Any = None
    error: str = ""
    code: str = ""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a log. `size` is the file's length now; `file` changes when another file has taken the name."""

    offset: int
    size: int
    file: str
    data: bytes


# --- master to worker


class Welcome(Message):
    protocol: int
    version: str
    node: str
    name: str
    now: int
    acked: int  # reports of this epoch up to here are stored
    silence_s: float = 15.0  # a link that silent is dead


class Refused(Message):
    """Why this worker may not connect; the link is closed after it. `is_final`: trying again is of no use."""

    code: str
    reason: str
    is_final: bool = False


class WantedList(Message):
    """What the master wants: all of it after a hello (`full`), later what changed since the last acknowledgement."""

    revision: int
    items: list[Wanted]
    full: bool = False


class ReportsAck(Message):
    seq: int


class LogFiles(Message):
    """Which logs an instance has."""

    id: int
    instance: str


class LogRead(Message):
    """Bytes of a log. `tail`: the last so many lines, `offset` ignored. `wait_s`: how long to wait for new bytes."""

    id: int
    instance: str
    name: str
    offset: int = 0
    limit: int = CHUNK_MAX
    tail: int = 0
    wait_s: float = 0.0


class Processes(Message):
    """The processes of an instance's tree."""

    id: int
    instance: str


class Gate(Message):
    """Is it so yet? Answered by None for yes, or by the reason why not. `kind`: port or log."""

    id: int
    instance: str
    kind: str
    target: str


class Candidates(Message):
    """What runs on the node and belongs to no instance: what could be adopted."""

    id: int
    instance: str = ""


class Match(Message):
    """What a description of a service to adopt finds on the node, before it is saved."""

    id: int
    external: Manifest
    instance: str = ""


Request = LogFiles | LogRead | Processes | Gate | Candidates | Match
FromWorker = Hello | Reports | WantedAck | Sample | Answer
FromMaster = Welcome | Refused | WantedList | ReportsAck | LogFiles | LogRead | Processes | Gate | Candidates | Match


class Kind(NamedTuple):
    sender: str
    is_lossy: bool = False


MESSAGES: dict[type[Message], Kind] = {
    Hello: Kind("worker"),
    Reports: Kind("worker"),
    WantedAck: Kind("worker"),
    Sample: Kind("worker", is_lossy=True),
    Answer: Kind("worker"),
    Welcome: Kind("master"),
    Refused: Kind("master"),
    WantedList: Kind("master"),
    ReportsAck: Kind("master"),
    LogFiles: Kind("master"),
    LogRead: Kind("master"),
    Processes: Kind("master"),
    Gate: Kind("master"),
    Candidates: Kind("master"),
    Match: Kind("master"),
}


class LogFile(msgspec.Struct, frozen=True):
    name: str
    size: int
    modified_at: int


class ProcessInfo(msgspec.Struct, frozen=True):
    pid: int
    parent: int
    command: str
    rss: int
    started_at: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A process that could be adopted. `instance`: of an instance already, and of which. `unit`: of systemd."""

    pid: int
    name: str
    user: str
    command: str
    exe: str = ""
    cwd: str = ""
    ports: list[int] = []
    unit: str = ""
    started_at: int = 0
    instance: str = ""
