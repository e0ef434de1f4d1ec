"""Metric history in memory: float32 rings in three tiers, within one budget. Used on the event loop only.

A ring is a row of chunks of CHUNK slots; a slot that nobody filled is NaN, so that gaps stay gaps. When the budget
is short, each tier of each series keeps fewer chunks, the same for all.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import Any, NamedTuple

from gdos.model.metrics import HOST, INSTANCE, Column

CHUNK = 60
_NAN = float("nan")


class Tier(NamedTuple):
    step_s: int
    length_s: int


TIERS = (Tier(1, 600), Tier(10, 6 * 3600), Tier(60, 7 * 86400))
COLUMNS: dict[str, tuple[Column, ...]] = {"node": HOST, "instance": INSTANCE}
_KEPT = {kind: [i for i, c in enumerate(columns) if c.is_kept] for kind, columns in COLUMNS.items()}


class _Chunk:
    __slots__ = ("start", "values")

    def __init__(self, start: int, blank: array[float]) -> None:
        self.start = start  # in slots since 1970
        self.values = blank[:]


class _Ring:
    """One tier of one series."""

    __slots__ = ("blank", "chunks", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.blank = array("f", [_NAN]) * (CHUNK * width)
        self.chunks: deque[_Chunk] = deque()

    def put(self, slot: int, row: array[float], keep: int) -> int:
        """Write a row; returns the change in the number of chunks. A slot before the newest chunk is dropped."""
        grown = 0
        start = slot - slot % CHUNK
        if not self.chunks or self.chunks[-1].start < start:
            self.chunks.append(_Chunk(start, self.blank))
            grown += 1
            while len(self.chunks) > keep:
                self.chunks.popleft()
                grown -= 1
        chunk = self.chunks[-1]
        if chunk.start == start:
            at = (slot - start) * self.width
            chunk.values[at : at + self.width] = row
        return grown

    def column(self, index: int, first: int, count: int) -> list[float]:
        """`count` values from slot `first` on; NaN where there is none."""
        out = [_NAN] * count
        for chunk in self.chunks:
            low, high = max(first, chunk.start), min(first + count, chunk.start + CHUNK)
            for slot in range(low, high):
                out[slot - first] = chunk.values[(slot - chunk.start) * self.width + index]
        return out


class _Series:
    __slots__ = ("kind", "last", "last_at", "rings", "sums")

    def __init__(self, kind: str) -> None:
        kept = len(_KEPT[kind])
        self.kind = kind
        self.rings = [_Ring(len(COLUMNS[kind])), _Ring(kept), _Ring(kept)]
        self.sums: list[list[Any]] = [[-1, 0, [0.0] * kept] for _ in TIERS[1:]]  # slot, samples, sums
        self.last: array[float] = array("f")
        self.last_at = 0


class Rings:
    """All series. `budget` in bytes is what the values may take."""

    def __init__(self, budget: int = 128 << 20) -> None:
        self.budget = budget
        self._series: dict[tuple[str, str], _Series] = {}
        self._chunks = [0] * len(TIERS)

    def append(self, kind: str, id_: str, at_s: int, values: list[float]) -> None:
        """One sample; extra columns are cut, missing ones are gaps."""
        series = self._series.get((kind, id_))
        if series is None:
            series = self._series[(kind, id_)] = _Series(kind)
        width = len(COLUMNS[kind])
        row = array("f", values[:width])
        if len(row) < width:
            row.extend([_NAN] * (width - len(row)))
        series.last, series.last_at = row, at_s
        self._chunks[0] += series.rings[0].put(at_s, row, self._keep(0))
        kept = [row[i] for i in _KEPT[kind]]
        for tier in (1, 2):
            self._roll(series, tier, at_s // TIERS[tier].step_s, kept)

    def _roll(self, series: _Series, tier: int, slot: int, kept: list[float]) -> None:
        """Add to the running mean of a coarser tier; written when the next slot begins."""
        state = series.sums[tier - 1]
        if state[0] != slot:
            if state[1]:
                mean = array("f", [s / state[1] for s in state[2]])
                self._chunks[tier] += series.rings[tier].put(state[0], mean, self._keep(tier))
            state[0], state[1], state[2] = slot, 0, [0.0] * len(kept)
        state[1] += 1
        sums = state[2]
        for i, value in enumerate(kept):
            sums[i] += value

    def _keep(self, tier: int) -> int:
        """How many chunks a ring of this tier may have now: its length, or its fair share of the budget."""
        full = math.ceil(TIERS[tier].length_s / TIERS[tier].step_s / CHUNK) + 1
        share = self.budget / len(TIERS) / max(len(self._series), 1)
        width = 10 if tier == 0 else 5
        return max(2, min(full, int(share / (CHUNK * width * 4))))

    def forget(self, kind: str, id_: str) -> None:
        """Drop a series."""
        series = self._series.pop((kind, id_), None)
        if series is not None:
            for tier, ring in enumerate(series.rings):
                self._chunks[tier] -= len(ring.chunks)

    def latest(self, kind: str, id_: str) -> dict[str, float] | None:
        """The newest sample by name, or None."""
        series = self._series.get((kind, id_))
        if series is None or not series.last:
            return None
        names = COLUMNS[kind]
        return {c.name: _tidy(v) for c, v in zip(names, series.last, strict=True) if not math.isnan(v)}

    def ids(self, kind: str) -> list[str]:
        return [id_ for k, id_ in self._series if k == kind]

    def size(self) -> int:
        """Bytes that the values take."""
        return sum(
            len(ring.chunks) * CHUNK * ring.width * 4 for series in self._series.values() for ring in series.rings
        )

    def query(self, kind: str, id_: str, end_s: int, range_s: int, step_s: int) -> dict[str, Any]:
        """The last `range_s` seconds; from the finest tier that reaches back so far, means over `step_s`."""
        series = self._series.get((kind, id_))
        tier = next((i for i, t in enumerate(TIERS) if t.length_s >= range_s), len(TIERS) - 1)
        own = TIERS[tier].step_s
        step = max(own, math.ceil((step_s or own) / own) * own)
        count = max(1, range_s // step)
        first = (end_s // step - count + 1) * step
        points: dict[str, list[float | None]] = {}
        indexes = range(len(COLUMNS[kind])) if tier == 0 else _KEPT[kind]
        for position, index in enumerate(indexes):
            if series is None:
                raw = [_NAN] * (count * step // own)
            else:
                raw = series.rings[tier].column(position, first // own, count * step // own)
            points[COLUMNS[kind][index].name] = _means(raw, step // own)
        return {"start": first * 1000, "step_s": step, "points": points}


def _means(raw: list[float], width: int) -> list[float | None]:
    out: list[float | None] = []
    for i in range(0, len(raw), width):
        good = [v for v in raw[i : i + width] if not math.isnan(v)]
        out.append(_tidy(sum(good) / len(good)) if good else None)
    return out


def _tidy(value: float) -> float:
    """float32 noise away: 0.10000000149 -> 0.1; large values are whole numbers anyway."""
    return float(round(value)) if abs(value) >= 1e5 else float(f"{value:.6g}")
