"""The owner thread: one queue of events and a heap of timers. All instance state is touched here and nowhere else."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
Event = Callable[[], None]


@dataclass(order=True, slots=True)
class Timer:
    """`cancel()` may be called any number of times, also after it fired."""

    at: float
    number: int
    fn: Event | None = field(compare=False)

    def cancel(self) -> None:
        self.fn = None


class OwnerLoop:
    """`post` from any thread (and from signal handlers), the rest on the owner thread only."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._is_stopped = False

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def post(self, fn: Event) -> None:
        self._events.put(fn)

    def call_later(self, delay_s: float, fn: Event) -> Timer:
        timer = Timer(self.now() + delay_s, next(self._numbers), fn)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Leave `run` after the event that is being handled."""
        self._is_stopped = True
        self._events.put(lambda: None)

    def run(self) -> None:
        """Until `stop`. An event that fails is logged with its trace and ends nothing else."""
        while not self._is_stopped:
            self._fire_due()
            timeout = self._timers[0].at - self.now() if self._timers else None
            try:
                event = self._events.get(timeout=None if timeout is None else max(timeout, 0.0))
            except queue.Empty:
                continue
            self._guard(event)

    def _fire_due(self) -> None:
        while self._timers and (self._timers[0].fn is None or self._timers[0].at <= self.now()):
            timer = heapq.heappop(self._timers)
            if timer.fn is not None:
                fn, timer.fn = timer.fn, None
                self._guard(fn)

    @staticmethod
    def _guard(event: Event) -> None:
        try:
            event()
        except Exception:
            log.exception("an event of the owner thread failed")
