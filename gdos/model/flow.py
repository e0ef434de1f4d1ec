"""The steps of a task as a graph: what may be asked for now, what can never be, which gates to look at. Pure.

A step is asked for ("issued") once all that it needs is so; what needs a step that failed is called off, and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gdos.model.order import GateKind

OPEN = frozenset({"queued", "running"})
BAD = frozenset({"failed", "cancelled", "interrupted"})


class Need(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that must have come so far: see order.Dependency for the gates."""

    step: int
    gate: GateKind = "ready"
    target: str = ""
    timeout: int = 300


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it is now. `is_up`, `is_completed`, `is_failed`: of its instance. Times in milliseconds."""

    number: int
    name: str
    state: str
    is_issued: bool
    needs: Sequence[Need] = ()
    message: str = ""
    closed_at: int | None = None
    is_up: bool = False
    is_completed: bool = False
    is_failed: bool = False


@dataclass(slots=True)
class Moves:
    """`probe`: (step, index of its need) of gates that a node must be asked about."""

    issue: list[int] = field(default_factory=list)
    cancel: dict[int, str] = field(default_factory=dict)
    probe: list[tuple[int, int]] = field(default_factory=list)


def decide(steps: Mapping[int, Step], opened: Collection[tuple[int, int]], now: int) -> Moves:
    """What follows from how the steps are. `opened`: the gates that a node has found open."""
    moves = Moves()
    for number in sorted(steps):
        step = steps[number]
        if step.is_issued or step.state not in OPEN:
            continue
        verdicts = [_judge(need, steps[need.step], (number, i) in opened, now) for i, need in enumerate(step.needs)]
        called_off = next((v for v in verdicts if isinstance(v, str)), None)
        doomed = next((need.step for need in step.needs if need.step in moves.cancel), None)
        if called_off is not None:
            moves.cancel[number] = called_off
        elif doomed is not None:
            moves.cancel[number] = moves.cancel[doomed]
        elif all(v is True for v in verdicts):
            moves.issue.append(number)
        else:
            moves.probe += [(number, i) for i, v in enumerate(verdicts) if v is None]
    return moves


def _judge(need: Need, on: Step, is_open: bool, now: int) -> bool | str | None:
    """True: it is so. False: not yet. None: a node must be asked. A text: it will never be, and why."""
    if on.state in BAD:
        return on.message if on.message.startswith("not done:") else f"not done: {on.name} {on.state}: {on.message}"
    is_done = on.state == "succeeded"
    if need.gate == "ready":
        return is_done
    if need.gate == "started":
        return is_done or (on.is_issued and on.is_up)
    if need.gate == "exit 0" and on.is_completed and on.is_issued and is_done:
        return True
    if need.gate == "exit 0" and on.is_failed and is_done:
        return f"not done: {on.name} ended, and not with 0"
    if not is_done:
        return False
    if is_open:
        return True
    if on.closed_at is not None and now > on.closed_at + need.timeout * 1000:
        what = f"{need.gate} {need.target}".strip()
        return f"not done: the gate `{what}` of {on.name} did not open within {need.timeout} s"
    return None if need.gate in ("port", "log") else False
