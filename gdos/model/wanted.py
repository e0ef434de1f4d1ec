"""What should be, what is, and what to do next: the heart of the worker, as pure functions.

`plan()` looks at one moment and names at most one action per instance. The worker performs it, the facts change,
and it asks again; an empty answer means that all is as wanted, or that something is under way or has to be waited for.
Commands are never queued: offline, crash, retry and the normal case are one path.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from gdos.model.manifest import Manifest
from gdos.model.states import State


class Release(msgspec.Struct, frozen=True):
    """An immutable package: which bytes."""

    package: str
    version: str
    sha256: str
    size: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the master wants of one instance. `revision` counts the changes on its node.

    `start_serial` grows when somebody asks for a start (a failed instance tries again, a cron job runs now),
    `restart_serial` when somebody asks for a restart (a running one is replaced too). `staged` is a release to have
    ready beside the present one. `external` describes a service that was adopted instead of deployed.
    """

    id: str
    name: str
    system: str
    module: str
    revision: int
    present: bool = True
    run: bool = True
    release: Release
    env: dict[str, str] = {}
    config: str = ""  # names this state of the configuration
    staged: Release | None = None
    external: Manifest | None = None
    start_serial: int = 0
    restart_serial: int = 0


class Actual(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of one instance on the node right now. Times are monotonic seconds."""

    state: State = State.PENDING
    is_busy: bool = False  # an action is in hand
    is_alive: bool = False  # its process is there
    current: str = ""  # SHA-256 of the release that runs or would run
    fetched: frozenset[str] = frozenset()  # SHA-256 of the releases unpacked on disk
    tried: tuple[int, int] = (-1, -1)  # the serials of the last start
    next_try: float = 0.0  # not before then: back-off of starts and of downloads
    refused: int = -1  # the wanted revision whose stop or upgrade a pre_* hook refused
    cleared: str = ""  # SHA-256 of the release whose pre_upgrade hook has passed
    waits_for_schedule: bool = False  # a cron service whose time has not come
    is_watched_only: bool = False  # adopted, and nobody said how to start it


class Action(Enum):
    FETCH = "fetch"  # download, verify, unpack beside what is there
    CLEAR = "clear"  # ask the pre_upgrade hook of the wanted release
    SWITCH = "switch"  # make the wanted release the current one
    START = "start"
    STOP = "stop"
    SETTLE = "settle"  # no process is there and none is wanted: leave backoff or failed
    CANCEL = "cancel"  # what is in hand is no longer wanted
    DESTROY = "destroy"


_RESTING = frozenset({State.FAILED, State.COMPLETED, State.STOPPED})
_CANCELLABLE = frozenset({State.DEPLOYING, State.UPGRADING})


def plan(wanted: Mapping[str, Wanted], actual: Mapping[str, Actual], now: float) -> dict[str, Action]:
    """The next action for each instance that needs one. Instances that nobody wants are left alone."""
    found = {}
    for id_, want in wanted.items():
        action = plan_one(want, actual.get(id_, Actual()), now)
        if action is not None:
            found[id_] = action
    return found


def plan_one(want: Wanted, actual: Actual, now: float) -> Action | None:
    """The next action for one instance, or None."""
    if actual.is_watched_only:
        return None if want.present or actual.is_busy else Action.DESTROY
    must_stop = actual.is_alive and not (want.present and want.run)
    if actual.is_busy:
        is_idle_work = must_stop or not want.present or want.release.sha256 in actual.fetched
        return Action.CANCEL if is_idle_work and actual.state in _CANCELLABLE else None
    if not want.present and actual.state is State.DESTROYING:
        return Action.DESTROY
    is_refused = want.present and actual.is_alive and actual.refused == want.revision
    if must_stop or actual.state is State.STOPPING:
        return None if is_refused and actual.state is not State.STOPPING else Action.STOP
    if not want.present:
        return Action.DESTROY
    if want.external is None and want.release.sha256 != actual.current:
        return _plan_release(want, actual, now)
    if want.run:
        action = _plan_run(want, actual, now)
        return None if action is Action.STOP and is_refused else action
    return Action.SETTLE if actual.state in (State.BACKOFF, State.FAILED) else None


def _plan_release(want: Wanted, actual: Actual, now: float) -> Action | None:
    """Another release than the present one is wanted."""
    if want.release.sha256 not in actual.fetched:
        return Action.FETCH if now >= actual.next_try else None
    if actual.current and actual.refused == want.revision:
        return None
    if actual.current and actual.cleared != want.release.sha256:
        return Action.CLEAR
    return Action.STOP if actual.is_alive else Action.SWITCH


def _plan_run(want: Wanted, actual: Actual, now: float) -> Action | None:
    if actual.is_alive:
        return Action.STOP if want.restart_serial != actual.tried[1] and not actual.waits_for_schedule else None
    asked_again = (want.start_serial, want.restart_serial) != actual.tried
    if actual.waits_for_schedule:
        is_retry = actual.state is State.BACKOFF and now >= actual.next_try
        return Action.START if is_retry or (asked_again and actual.tried[0] >= 0) else None
    if actual.state in _RESTING:
        return Action.START if asked_again else None
    return Action.START if asked_again or now >= actual.next_try else None


def merge(old: Mapping[str, Wanted], changes: list[Wanted], *, full: bool) -> dict[str, Wanted]:
    """The wanted list after a message. What a full list no longer names is kept: nothing is destroyed by silence."""
    merged = dict(old)
    for change in changes:
        known = merged.get(change.id)
        if known is None or change.revision >= known.revision or full:
            merged[change.id] = change
    return merged
