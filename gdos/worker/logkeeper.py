"""Keeps the logs of running instances within their size, and all of them within their quotas. Owner thread; the work
itself is done in the pool.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from gdos.model.values import format_size
from gdos.worker import livelog
from gdos.worker.executor import rotate
from gdos.worker.executor.around import Around
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.fetch import RESERVE
from gdos.worker.executor.instance import Instance

log = logging.getLogger(__name__)
LOOK_S = 1.0
ALL_EVERY = 10  # looks between two sums over all instances


class LogKeeper:
    """From `start` on, for as long as the loop runs."""

    def __init__(self, around: Around, instances: Callable[[], Collection[Instance]]) -> None:
        self._around = around
        self._instances = instances
        self._looks = 0
        self._is_summing = False
        self._rotated: dict[str, int] = {}  # instance -> when its log was rotated last (milliseconds)
        self._said: dict[str, str] = {}  # instance -> why its log could not be rotated

    def start(self) -> None:
        self._around.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._around.loop.call_later(LOOK_S, self._look)
        self._looks += 1
        if livelog.can_cut():
            for instance in self._instances():
                self._look_at(instance)
        if self._looks % ALL_EVERY == 0 and not self._is_summing:
            self._is_summing = True
            paths = [i.folder.app_log for i in self._instances()]
            self._around.run(lambda: self._sum(paths), self._summed)

    def _look_at(self, instance: Instance) -> None:
        policy, path = self._around.log_rotation, instance.folder.log(instance.record.log)
        if instance.record.handle is None or instance.is_rotating:
            return
        id_, now = instance.record.id, self._around.wall()
        begun = max(self._rotated.get(id_, 0), instance.record.started_at or now)
        if not rotate.is_due(path, policy, (now - begun) / 1000):
            return
        instance.is_rotating = True
        self._rotated[id_] = now

        def work() -> None:
            rotate.while_running(path, policy)
            rotate.tidy(path, policy)

        def done(_: None, error: Exception | None) -> None:
            instance.is_rotating = False
            why = describe_error(error) if error is not None else ""
            if why and self._said.get(instance.record.id) != why:
                log.warning("%s: its log cannot be rotated: %s; tried again", instance.record.name, why)
            self._said[instance.record.id] = why

        self._around.run(work, done)

    def _sum(self, paths: list[Path]) -> int:
        """In the pool: the node's quota, less when its disk is nearly full."""
        quota = self._around.log_rotation.node_quota
        if paths:
            free = shutil.disk_usage(paths[0].parent if paths[0].parent.is_dir() else "/").free
            if free < 2 * RESERVE:
                quota = 0
        return rotate.drop_oldest(paths, quota)

    def _summed(self, freed: int | None, error: Exception | None) -> None:
        self._is_summing = False
        if error is not None:
            log.warning("the logs' quota: %s", describe_error(error))
        elif freed:
            log.warning("old logs were removed to keep the node's quota: %s", format_size(freed))
