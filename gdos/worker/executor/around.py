"""What all instances of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gdos.wire.messages import Report
from gdos.worker.drivers.base import Driver
from gdos.worker.executor.fetch import Cache, Source
from gdos.worker.executor.launch import NodeFacts
from gdos.worker.executor.rotate import Policy
from gdos.worker.loop import OwnerLoop


@dataclass(frozen=True, slots=True)
class Around:
    """`run(work, done)`: `work` in the pool, then `done(result, error)` on the owner thread."""

    loop: OwnerLoop
    driver: Driver
    cache: Cache
    source: Callable[[], Source]
    node: Callable[[], NodeFacts]
    run: Callable[[Callable[[], Any], Callable[[Any, Exception | None], None]], None]
    report: Callable[[Report], None]
    wall: Callable[[], int]
    boot: str
    log_rotation: Policy
