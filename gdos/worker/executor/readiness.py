"""Looking at a started instance: until it is ready, and then for as long as it lives. Looks happen in the pool."""

from __future__ import annotations

from collections.abc import Callable

from gdos.worker.executor.around import Around
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.launch import Probe
from gdos.worker.loop import Timer
from gdos.worker.probes import look

FIRST_S, LONGEST_S = 0.02, 1.0


class Readiness:
    """Owner thread only. Calls `on_ready` or `on_late(reason)` once, or neither after `cancel`."""

    def __init__(
        self, around: Around, probe: Probe, on_ready: Callable[[], None], on_late: Callable[[str], None]
    ) -> None:
        self._around = around
        self._probe = probe
        self._on_ready = on_ready
        self._on_late = on_late
        self._last = "no answer yet"
        self._is_over = False
        self._timers: list[Timer] = []
        if probe.kind == "time":
            self._timers = [around.loop.call_later(float(probe.target), self._yes)]
        else:
            self._timers = [around.loop.call_later(probe.timeout_s, self._late)]
            around.loop.call_later(FIRST_S, lambda: self._look(FIRST_S))

    def cancel(self) -> None:
        self._is_over = True
        for timer in self._timers:
            timer.cancel()

    def _look(self, pause_s: float) -> None:
        if not self._is_over:
            self._around.run(lambda: look(self._probe), lambda reason, error: self._seen(reason, error, pause_s))

    def _seen(self, reason: str | None, error: Exception | None, pause_s: float) -> None:
        if self._is_over:
            return
        if reason is None and error is None:
            self._yes()
            return
        self._last = reason or describe_error(error)
        self._around.loop.call_later(pause_s, lambda: self._look(min(pause_s * 1.5, LONGEST_S)))

    def _yes(self) -> None:
        if not self._is_over:
            self.cancel()
            self._on_ready()

    def _late(self) -> None:
        if not self._is_over:
            self.cancel()
            self._on_late(f"not ready within {self._probe.timeout_s:g} s: {self._last}")


class Liveness:
    """Owner thread only. `on_dead(reason)` once, after so many bad looks in a row; never after `cancel`."""

    def __init__(
        self, around: Around, probe: Probe, interval_s: float, failures: int, on_dead: Callable[[str], None]
    ) -> None:
        self._around = around
        self._probe = probe
        self._interval_s = interval_s
        self._failures = failures
        self._on_dead = on_dead
        self._bad = 0
        self._is_over = False
        self._timer = around.loop.call_later(interval_s, self._look)

    def cancel(self) -> None:
        self._is_over = True
        self._timer.cancel()

    def _look(self) -> None:
        if not self._is_over:
            self._around.run(lambda: look(self._probe), self._seen)

    def _seen(self, reason: str | None, error: Exception | None) -> None:
        if self._is_over:
            return
        is_bad = reason is not None or error is not None
        self._bad = self._bad + 1 if is_bad else 0
        if self._bad >= self._failures:
            self._is_over = True
            times = f"{self._bad} times in a row" if self._bad > 1 else "once"
            self._on_dead(f"the liveness probe failed {times}: {reason or describe_error(error)}")
            return
        self._timer = self._around.loop.call_later(self._interval_s, self._look)
