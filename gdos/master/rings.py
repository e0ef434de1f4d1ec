"""Metric history in memory: float32 rings in three tiers, within one budget. Used on the event loop only.

A ring is a row of chunks of CHUNK slots; a slot that nobody filled is NaN, so that gaps stay gaps. When the budget
is short, each tier of each series keeps fewer chunks, the same for all. A sample costs one write into the finest
tier; the coarser ones are filled from it whenever one of their slots ends.
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from typing import Any, NamedTuple

from gdos.model.metrics import HOST, INSTANCE, Column

CHUNK = 30
_NAN = float("nan")


class Tier(NamedTuple):
    step_s: int
    length_s: int


TIERS = (Tier(1, 600), Tier(10, 6 * 3600), Tier(60, 7 * 86400))
COLUMNS: dict[str, tuple[Column, ...]] = {"node": HOST, "instance": INSTANCE}
_KEPT = {kind: [i for i, c in enumerate(columns) if c.is_kept] for kind, columns in COLUMNS.items()}
_VALUE_BYTES = 4


@lru_cache(maxsize=16)
def _blank(width: int) -> array[float]:
    return array("f", [_NAN]) * (CHUNK * width)


class _Chunk:
    __slots__ = ("start", "values")

    def __init__(self, start: int, width: int) -> None:
        self.start = start  # in slots since 1970
        self.values = _blank(width)[:]


class _Ring:
    """One tier of one series."""

    __slots__ = ("chunks", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.chunks: list[_Chunk] = []

    def put(self, slot: int, row: array[float], keep: int) -> None:
        """Write a row. A slot before the newest chunk is dropped: the clock was set back."""
        start = slot - slot % CHUNK
        if not self.chunks or self.chunks[-1].start < start:
            self.chunks.append(_Chunk(start, self.width))
            del self.chunks[:-keep]
        chunk = self.chunks[-1]
        if chunk.start == start:
            at = (slot - start) * self.width
            chunk.values[at : at + self.width] = row

    def column(self, index: int, first: int, count: int) -> list[float]:
        """`count` values from slot `first` on; NaN where there is none."""
        out = [_NAN] * count
        for chunk in self.chunks:
            low, high = max(first, chunk.start), min(first + count, chunk.start + CHUNK)
            if low < high:
                begin = (low - chunk.start) * self.width + index
                end = (high - chunk.start - 1) * self.width + index + 1
                out[low - first : high - first] = chunk.values[begin : end : self.width]
        return out


class _Series:
    __slots__ = ("last", "last_at", "rings", "width")

    def __init__(self, kind: str) -> None:
        self.width = len(COLUMNS[kind])
        self.rings = [_Ring(self.width), *(_Ring(len(_KEPT[kind])) for _ in TIERS[1:])]
        self.last: array[float] = array("f")
        self.last_at = 0


class Rings:
    """All series. `budget` in bytes is what the values may take."""

    def __init__(self, budget: int = 128 << 20) -> None:
        self.budget = budget
        self._series: dict[str, dict[str, _Series]] = {kind: {} for kind in COLUMNS}

    def append(self, kind: str, id_: str, at_s: int, values: list[float]) -> None:
        """One sample; extra columns are cut, missing ones are gaps."""
        series = self._series[kind].get(id_)
        if series is None:
            series = self._series[kind][id_] = _Series(kind)
        row = array("f", values)
        if len(row) != series.width:
            row = row[: series.width]
            row.extend([_NAN] * (series.width - len(row)))
        if at_s // 10 != series.last_at // 10 and series.last_at:
            self._roll(kind, series, at_s)
        series.last, series.last_at = row, at_s
        ring = series.rings[0]
        start = at_s - at_s % CHUNK
        if ring.chunks and ring.chunks[-1].start == start:  # nearly always
            at = (at_s - start) * series.width
            ring.chunks[-1].values[at : at + series.width] = row
        else:
            ring.put(at_s, row, self._keep(kind, 0))

    def _roll(self, kind: str, series: _Series, at_s: int) -> None:
        """Slots of the coarser tiers have ended: their means, from the tier below."""
        for tier in (1, 2):
            step = TIERS[tier].step_s
            slot = series.last_at // step
            if slot == at_s // step:
                return
            below = TIERS[tier].step_s // TIERS[tier - 1].step_s
            sources = _KEPT[kind] if tier == 1 else range(len(_KEPT[kind]))
            columns = [series.rings[tier - 1].column(i, slot * below, below) for i in sources]
            means = array("f", [_mean(column) for column in columns])
            series.rings[tier].put(slot, means, self._keep(kind, tier))

    def _keep(self, kind: str, tier: int) -> int:
        """How many chunks a ring of this tier may have now: its length, or its fair share of the budget."""
        full = math.ceil(TIERS[tier].length_s / TIERS[tier].step_s / CHUNK) + 1
        count = sum(len(found) for found in self._series.values())
        share = self.budget / len(TIERS) / max(count, 1)
        width = len(COLUMNS[kind]) if tier == 0 else len(_KEPT[kind])
        return max(2, min(full, int(share / (CHUNK * width * _VALUE_BYTES))))

    def forget(self, kind: str, id_: str) -> None:
        """Drop a series."""
        self._series[kind].pop(id_, None)

    def latest(self, kind: str, id_: str) -> dict[str, float] | None:
        """The newest sample by name, or None."""
        series = self._series[kind].get(id_)
        if series is None or not series.last:
            return None
        names = COLUMNS[kind]
        return {c.name: _tidy(v) for c, v in zip(names, series.last, strict=True) if not math.isnan(v)}

    def ids(self, kind: str) -> list[str]:
        """All series of a kind."""
        return list(self._series[kind])

    def size(self) -> int:
        """Bytes that the values take."""
        every = [series for found in list(self._series.values()) for series in list(found.values())]
        return sum(len(r.chunks) * CHUNK * r.width * _VALUE_BYTES for series in every for r in series.rings)

    def query(self, kind: str, id_: str, end_s: int, range_s: int, step_s: int) -> dict[str, Any]:
        """The last `range_s` seconds; from the finest tier that reaches back so far, means over `step_s`."""
        series = self._series[kind].get(id_)
        tier = next((i for i, t in enumerate(TIERS) if t.length_s >= range_s), len(TIERS) - 1)
        own = TIERS[tier].step_s
        step = max(own, math.ceil((step_s or own) / own) * own)
        count = max(1, range_s // step)
        first = (end_s // step - count + 1) * step
        points: dict[str, list[float | None]] = {}
        indexes = range(len(COLUMNS[kind])) if tier == 0 else _KEPT[kind]
        for position, index in enumerate(indexes):
            slots = count * step // own
            raw = series.rings[tier].column(position, first // own, slots) if series else [_NAN] * slots
            points[COLUMNS[kind][index].name] = _means(raw, step // own)
        return {"start": first * 1000, "step_s": step, "points": points}


def _mean(values: list[float]) -> float:
    """Of what is there; NaN when nothing is."""
    good = [v for v in values if v == v]
    return sum(good) / len(good) if good else _NAN


def _means(raw: list[float], width: int) -> list[float | None]:
    means = [_mean(raw[i : i + width]) for i in range(0, len(raw), width)]
    return [None if math.isnan(mean) else _tidy(mean) for mean in means]


def _tidy(value: float) -> float:
    """float32 noise away: 0.10000000149 -> 0.1; large values are whole numbers anyway."""
    return float(round(value)) if abs(value) >= 1e5 else float(f"{value:.6g}")
