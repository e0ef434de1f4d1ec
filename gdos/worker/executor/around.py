"""What all instances of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gdos.model.manifest import Manifest
from gdos.wire.messages import Report
from gdos.worker.drivers.base import Driver
from gdos.worker.executor.fetch import Cache, Source
from gdos.worker.executor.launch import NodeFacts
from gdos.worker.executor.rotate import Policy
from gdos.worker.loop import OwnerLoop
from gdos.worker.platform.base import Platform


@dataclass(frozen=True, slots=True)
class Around:
    """`run(work, done)`: `work` in the pool, then `done(result, error)` on the owner thread.

    `driver` is for what the worker starts itself, `adopter(manifest)` for what it only takes care of.
    `allow`: what the operator of this node lets the master do here.
    """

    loop: OwnerLoop
    system: Platform
    driver: Driver
    adopter: Callable[[Manifest], Driver]
    cache: Cache
    source: Callable[[], Source]
    node: Callable[[], NodeFacts]
    run: Callable[[Callable[[], Any], Callable[[Any, Exception | None], None]], None]
    report: Callable[[Report], None]
    wall: Callable[[], int]
    boot: str
    log_rotation: Policy
    allow: frozenset[str]
