"""When a cron instance is due: by the wall clock of its time zone, remembered on the disk, the worker's own business.

The clock is looked at again at least every half minute, so that one that was set is noticed; nothing that was due
before the last run runs again when it is set back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gdos.model import cron
from gdos.model.manifest import Manifest
from gdos.worker.loop import Timer

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance

LOOK_S = 30.0


class Schedule:
    """Owner thread only. `on_due(due)` gets the time that was asked for (milliseconds)."""

    def __init__(self, instance: Instance, on_due: Callable[[int], None]) -> None:
        self._i = instance
        self._on_due = on_due
        self._timer: Timer | None = None
        self.next_due: int | None = None

    def follow(self, manifest: Manifest, is_on: bool) -> None:
        """From now on this schedule holds, or none."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.next_due = None, None
        if manifest.kind == "cron" and is_on:
            self._catch_up(manifest)
            self._arm(manifest)

    def _catch_up(self, manifest: Manifest) -> None:
        """What came while nobody was there: once, or not at all."""
        record, now = self._i.record, self._i.around.wall()
        missed = cron.last_before(manifest.schedule, manifest.timezone, now)
        if not record.last_due:
            record.last_due = now  # a new schedule owes nothing
        elif missed is not None and missed > record.last_due:
            record.last_due = missed
            if manifest.catch_up == "once":
                self._i.around.loop.post(lambda: self._on_due(missed))

    def _arm(self, manifest: Manifest) -> None:
        now = self._i.around.wall()
        after = max(now, self._i.record.last_due)
        self.next_due = cron.next_after(manifest.schedule, manifest.timezone, after)
        wait = min(max((self.next_due - now) / 1000, 0.0), LOOK_S)
        self._timer = self._i.around.loop.call_later(wait, lambda: self._look(manifest))

    def _look(self, manifest: Manifest) -> None:
        due = self.next_due
        if due is not None and self._i.around.wall() >= due:
            self._i.record.last_due = due
            self._arm(manifest)
            self._on_due(due)
        else:
            self._arm(manifest)
