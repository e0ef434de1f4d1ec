"""Small value types and the spellings people use for sizes and durations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gdos.model.errors import BadInput

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

MonotonicClock = Callable[[], float]
"""Seconds that never jump: for durations and deadlines."""
WallClock = Callable[[], int]
"""Milliseconds since 1970, UTC: for display only."""


class Identity(msgspec.Struct, frozen=True):
    """Which process: a PID alone may be used again, with its start and the boot it is one process for ever.

    `started` is the kernel's own figure (clock ticks since boot on Linux, milliseconds since 1970 elsewhere).
    """

    pid: int
    started: int
    boot: str


class Exit(NamedTuple):
    """How a process ended. `code` and `signal` are both None when nobody could collect it (not our child)."""

    code: int | None = None
    signal: int | None = None

    def is_clean(self) -> bool:
        return self.code == 0


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """'512M', '1.5 GiB', '100' -> bytes (1 K = 1024). Raises BadInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text, re.IGNORECASE)
    if match is None:
        raise BadInput(f'expected a size such as "512M" or "2GiB", got "{text}"')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_duration(text: str) -> float:
    """'30s', '1h30m', '500ms', '45' -> seconds. Raises BadInput."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise BadInput(f'expected a duration such as "30s", "5m" or "1h30m", got "{text}"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_size(count: float) -> str:
    """Bytes for people: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Seconds for people: 90061 -> '1d1h', 65 -> '1m5s', 0.25 -> '250ms'."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    rest, out = int(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            out.append(f"{count}{unit}")
    return "".join(out[:2]) or "0s"
