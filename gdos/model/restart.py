"""When an ended process is started again: exponential back-off with jitter, as a pure function."""

from __future__ import annotations

from enum import Enum

from gdos.model.manifest import Manifest
from gdos.model.values import Exit


class Verdict(Enum):
    RETRY = "retry"
    ENDED = "ended"
    COMPLETE = "complete"
    GIVE_UP = "give_up"


def after_exit(manifest: Manifest, exit_: Exit, tries: int) -> Verdict:
    """What an exit by itself leads to. `tries`: restarts in a row so far, without one long enough run between."""
    if manifest.kind != "service" and exit_.is_clean():
        return Verdict.COMPLETE
    if manifest.kind == "cron" and not manifest.restart_max_retries:
        return Verdict.GIVE_UP  # its next time comes anyway
    wants = manifest.restart == "always" or (manifest.restart == "on-failure" and not exit_.is_clean())
    if not wants:
        return Verdict.ENDED if exit_.is_clean() else Verdict.GIVE_UP
    if manifest.restart_max_retries and tries >= manifest.restart_max_retries:
        return Verdict.GIVE_UP
    return Verdict.RETRY


def delay_s(manifest: Manifest, tries: int, chance: float) -> float:
    """Seconds until the next try: doubled each time up to the maximum. `chance` in [0, 1) spreads it by ±10 %."""
    base = min(manifest.restart_delay * 2.0 ** min(tries, 32), manifest.restart_max_delay)
    return base * (0.9 + 0.2 * chance)
