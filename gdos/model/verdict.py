"""Why an instance is as it is, in one sentence: a pure decision over what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdos.model.states import State
from gdos.model.values import format_duration


@dataclass(frozen=True, slots=True)
class Known:
    """What the verdict is made of. Ages in seconds; `task` is an open task that has something to do with it."""

    state: State
    reason: str
    wants_run: bool
    is_present: bool
    node: str
    node_state: str
    silent_s: float | None = None  # since the node's last sign of life
    up_s: float | None = None
    restarts: int = 0
    recent_exits: int = 0  # within the last hour
    last_exit: str = ""
    asked_by: str = ""  # who asked for the last start or stop
    asked: str = ""
    asked_age_s: float | None = None
    is_stale: bool = False
    is_acknowledged: bool = True  # its node has been told what is wanted
    kind: str = "service"
    next_run: str = ""
    is_watched: bool = False
    task: str = ""


def verdict(k: Known) -> str:
    """One line that a person can act on."""
    if k.node_state != "online":
        since = f", silent for {format_duration(k.silent_s)}" if k.silent_s is not None else ""
        return f"unknown: its node {k.node} is {k.node_state}{since}; it was {k.state.value} when last heard of"
    if not k.is_present:
        return f"being destroyed: {k.reason or k.state.value}"
    if not k.is_acknowledged:
        return f"{k.state.value}; its node has not yet taken over what is wanted of it"
    return _BY_STATE[k.state](k) + _task(k)


def _task(k: Known) -> str:
    return f"; {k.task}" if k.task else ""


def _running(k: Known) -> str:
    up = f" for {format_duration(k.up_s)}" if k.up_s is not None else ""
    text = f"running{up}"
    if not k.wants_run and not k.is_watched:
        return f"{text}, though it is wanted stopped: {k.reason}"
    if k.recent_exits:
        exits = f"{k.recent_exits} exit{'s' * (k.recent_exits > 1)} within the last hour"
        text += f", after {exits} (the last: {k.last_exit})"
    if k.is_stale:
        text += "; its configuration was changed since it was started: a restart brings it in"
    return text


def _stopped(k: Known) -> str:
    if k.is_watched:
        return f"not running: {k.reason}"
    if k.kind == "cron" and k.wants_run:
        return f"waits for its time, {k.next_run or 'none is known yet'}"
    if not k.wants_run:
        who = f" by {k.asked_by}" if k.asked_by and k.asked == "stop" else ""
        age = f" {format_duration(k.asked_age_s)} ago" if who and k.asked_age_s is not None else ""
        return f"stopped on purpose{who}{age}"
    return f"stopped by itself: {k.reason or k.last_exit or 'no reason is known'}"


def _failed(k: Known) -> str:
    if k.kind == "cron":
        return f"its last run failed: {k.reason}; the next is at {k.next_run or 'no time that is known'}"
    return f"failed and is not tried again by itself: {k.reason}"


def _completed(k: Known) -> str:
    more = f"; the next run is at {k.next_run}" if k.next_run else ""
    return f"done: it ended with 0{more}"


_BY_STATE: dict[State, Callable[[Known], str]] = {
    State.PENDING: lambda k: f"not on its node yet: {k.reason or 'the node has been asked'}",
    State.DEPLOYING: lambda k: f"being brought to its node: {k.reason}",
    State.STOPPED: _stopped,
    State.STARTING: lambda k: f"started and not ready yet{': ' + k.reason if k.reason else ''}",
    State.RUNNING: _running,
    State.STOPPING: lambda k: f"being stopped{': ' + k.reason if k.reason else ''}",
    State.BACKOFF: lambda k: f"crashes: {k.reason}, {k.restarts} restarts so far",
    State.FAILED: _failed,
    State.COMPLETED: _completed,
    State.UPGRADING: lambda k: f"the new version is being fetched: {k.reason}",
    State.DESTROYING: lambda k: f"being destroyed: {k.reason or 'its processes and its folder go'}",
}
