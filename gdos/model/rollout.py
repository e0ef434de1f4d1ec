"""How a version spreads: checked everywhere first, a canary, batches, and back again. Pure: steps out, nothing done."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gdos.model.flow import Need

Batch = Annotated[
    str, Meta(pattern=r"^([1-9]\d{0,3}|([1-9]\d?|100)%|all)$", extra={"what": 'a batch such as "1", "25%" or "all"'})
]
CHECK, BACK = "check", "roll back"


class Strategy(msgspec.Struct, frozen=True, omit_defaults=True):
    """`batch`: how many at a time. `canary`: how many go first, alone. `promote`: whether it goes on after them by
    itself. `min_healthy`: seconds that each must stay healthy. `on_failure`: stop there, or bring back all that was
    touched. `check`: whether the new version is brought to all nodes before the first instance is touched.
    """

    batch: Batch = "1"
    canary: Annotated[int, Meta(ge=0, le=1000)] = 0
    promote: Literal["auto", "manual"] = "auto"
    min_healthy: Annotated[float, Meta(ge=0, le=86400, extra={"unit": "seconds"})] = 2.0
    on_failure: Literal["rollback", "stop"] = "rollback"
    check: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """A step to be. `instance` is an index into what was planned for; `needs` name steps of the same plan."""

    action: str
    instance: int
    needs: tuple[Need, ...]
    phase: str
    hold_ms: int = 0


def sizes(count: int, strategy: Strategy) -> list[int]:
    """How many instances go together, one number a round; their sum is `count`."""
    found = []
    left = count
    if 0 < strategy.canary < count:
        found.append(strategy.canary)
        left -= strategy.canary
    step = _batch(count, strategy.batch)
    while left > 0:
        found.append(min(step, left))
        left -= found[-1]
    return found


def _batch(count: int, text: str) -> int:
    if text == "all":
        return max(count, 1)
    match = re.fullmatch(r"(\d+)(%?)", text)
    assert match is not None, "checked when it came in"
    number = int(match[1])
    return max(1, math.ceil(count * number / 100)) if match[2] else number


def plan(
    count: int, strategy: Strategy, action: str = "upgrade", after: Sequence[int] = (), first: int = 0
) -> list[Planned]:
    """The steps for `count` instances, numbered from `first` on; `after` are steps that must have been done before.

    Every round needs the whole one before it, so a failure stops all that comes after.
    """
    found: list[Planned] = []
    before = [Need(n) for n in after]
    if strategy.check and action == "upgrade":
        found = [Planned("stage", i, tuple(before), CHECK) for i in range(count)]
        before = [Need(first + n) for n in range(count)]
    hold = int(strategy.min_healthy * 1000)
    at = 0
    for number, size in enumerate(sizes(count, strategy), 1):
        start = first + len(found)
        phase = "canary" if number == 1 and 0 < strategy.canary < count else f"batch {number}"
        found += [Planned(action, i, tuple(before), phase, hold) for i in range(at, at + size)]
        before = [Need(start + n) for n in range(size)]
        at += size
    return found


def back(touched: Sequence[int], strategy: Strategy, first: int) -> list[Planned]:
    """The way back for the instances that were touched, the last first, in batches of the same size."""
    order = list(reversed(touched))
    calm = msgspec.structs.replace(strategy, canary=0, check=False, min_healthy=min(strategy.min_healthy, 2.0))
    steps = plan(len(order), calm, "revert", (), first)
    return [Planned(s.action, order[s.instance], s.needs, BACK, s.hold_ms) for s in steps]
