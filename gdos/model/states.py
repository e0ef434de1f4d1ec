"""Every life-cycle change of an instance, in one table. Nothing else in the program decides what may follow what.

An illegal event raises; there is no silent fallback. The diagram in docs/architecture.md is made from this table.
"""

from __future__ import annotations

from enum import Enum

from gdos.model.errors import StateError


class State(Enum):
    PENDING = "pending"  # not yet reached the node, or not yet on its disk
    DEPLOYING = "deploying"  # download, verify, unpack, check
    STOPPED = "stopped"
    STARTING = "starting"  # the process is up, readiness is not there yet
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"  # ended by itself, waiting to be started again
    FAILED = "failed"  # gave up; the reason says why
    COMPLETED = "completed"  # a job that ended with 0
    UPGRADING = "upgrading"  # another release is being fetched beside the present one
    DESTROYING = "destroying"


class Event(Enum):
    DEPLOY = "deploy"  # begin to fetch a first release
    UPGRADE = "upgrade"  # begin to fetch another release
    DEPLOYED = "deployed"  # the wanted release is the current one
    KEPT = "kept"  # the upgrade failed, or a hook refused the stop: the process runs on
    START = "start"
    READY = "ready"
    RETRY = "retry"  # ended or not ready; another try comes
    ENDED = "ended"  # ended by itself as it may (exit 0, or policy never)
    COMPLETE = "complete"  # a job's exit 0
    GIVE_UP = "give_up"
    STOP = "stop"
    STOPPED = "stopped"
    DESTROY = "destroy"
    FOUND = "found"  # a restarted worker found the process alive
    LOST = "lost"  # a restarted worker found the work or the process gone


_S, _E = State, Event

_ALWAYS: dict[Event, State] = {_E.DESTROY: _S.DESTROYING}

TRANSITIONS: dict[State, dict[Event, State]] = {
    _S.PENDING: {_E.DEPLOY: _S.DEPLOYING, _E.GIVE_UP: _S.FAILED, _E.FOUND: _S.STARTING, _E.LOST: _S.PENDING},
    _S.DEPLOYING: {
        _E.DEPLOYED: _S.STOPPED,
        _E.RETRY: _S.PENDING,
        _E.GIVE_UP: _S.FAILED,
        _E.LOST: _S.PENDING,
    },
    _S.STOPPED: {
        _E.START: _S.STARTING,
        _E.UPGRADE: _S.UPGRADING,
        _E.GIVE_UP: _S.FAILED,
        _E.FOUND: _S.STARTING,
        _E.LOST: _S.STOPPED,
    },
    _S.STARTING: {
        _E.READY: _S.RUNNING,
        _E.RETRY: _S.BACKOFF,
        _E.ENDED: _S.STOPPED,
        _E.COMPLETE: _S.COMPLETED,
        _E.GIVE_UP: _S.FAILED,
        _E.STOP: _S.STOPPING,
        _E.UPGRADE: _S.UPGRADING,
        _E.FOUND: _S.STARTING,
        _E.LOST: _S.STOPPED,
    },
    _S.RUNNING: {
        _E.RETRY: _S.BACKOFF,
        _E.ENDED: _S.STOPPED,
        _E.COMPLETE: _S.COMPLETED,
        _E.GIVE_UP: _S.FAILED,
        _E.STOP: _S.STOPPING,
        _E.UPGRADE: _S.UPGRADING,
        _E.FOUND: _S.RUNNING,
        _E.LOST: _S.STOPPED,
    },
    _S.STOPPING: {
        _E.STOPPED: _S.STOPPED,
        _E.KEPT: _S.RUNNING,
        _E.RETRY: _S.BACKOFF,
        _E.GIVE_UP: _S.FAILED,
        _E.FOUND: _S.STOPPING,
        _E.LOST: _S.STOPPED,
    },
    _S.BACKOFF: {
        _E.START: _S.STARTING,
        _E.STOP: _S.STOPPED,
        _E.UPGRADE: _S.UPGRADING,
        _E.GIVE_UP: _S.FAILED,
        _E.FOUND: _S.STARTING,
        _E.LOST: _S.STOPPED,
    },
    _S.FAILED: {
        _E.DEPLOY: _S.DEPLOYING,
        _E.UPGRADE: _S.UPGRADING,
        _E.START: _S.STARTING,
        _E.STOP: _S.STOPPED,
        _E.FOUND: _S.STARTING,
        _E.LOST: _S.FAILED,
    },
    _S.COMPLETED: {
        _E.START: _S.STARTING,
        _E.STOP: _S.STOPPED,
        _E.UPGRADE: _S.UPGRADING,
        _E.FOUND: _S.STARTING,
        _E.LOST: _S.COMPLETED,
    },
    _S.UPGRADING: {
        _E.DEPLOYED: _S.STOPPED,
        _E.KEPT: _S.RUNNING,
        _E.GIVE_UP: _S.FAILED,
        _E.STOP: _S.STOPPING,
        _E.FOUND: _S.RUNNING,
        _E.LOST: _S.STOPPED,
    },
    _S.DESTROYING: {_E.DESTROY: _S.DESTROYING, _E.FOUND: _S.DESTROYING, _E.LOST: _S.DESTROYING},
}
for _row in TRANSITIONS.values():
    for _event, _target in _ALWAYS.items():
        _row.setdefault(_event, _target)

SETTLED = frozenset({_S.STOPPED, _S.RUNNING, _S.FAILED, _S.COMPLETED})
"""States in which nothing is under way."""
UP = frozenset({_S.STARTING, _S.RUNNING})
"""States in which a process should be there."""
TROUBLED = frozenset({_S.FAILED, _S.BACKOFF})
"""States that a person should look at."""


def step(state: State, event: Event) -> State:
    """The state after `event`. Raises StateError when the table has no such transition."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise StateError(f"{event.value} is not possible in state {state.value}") from None


def mermaid() -> str:
    """The table as a mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    for state, row in TRANSITIONS.items():
        for target in dict.fromkeys(row.values()):
            if target is state or target is _S.DESTROYING:
                continue
            events = ", ".join(event.value for event, to in row.items() if to is target)
            lines.append(f"    {state.value} --> {target.value}: {events}")
    return "\n".join([*lines, "    destroying --> [*]"])
