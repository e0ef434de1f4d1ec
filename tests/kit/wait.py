"""Waiting for a condition, never for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SCALE = float(os.environ.get("GDOS_TEST_SCALE", "1"))


def wait_until(look: Callable[[], T], what: str = "the condition", timeout_s: float = 30.0) -> T:
    """The first true value of `look()`. Fails with the last one when it takes too long."""
    deadline = time.monotonic() + timeout_s * SCALE
    pause = 0.005
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}; last seen: {found!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
