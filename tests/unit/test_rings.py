from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gdos.master.rings import CHUNK, Rings
from gdos.model.metrics import HOST, INSTANCE

WIDTH = len(INSTANCE)


def row(value: float) -> list[float]:
    return [value] * WIDTH


@given(st.lists(st.integers(0, 500), min_size=1, max_size=200))
def test_a_ring_never_loses_order_and_gaps_stay_gaps(seconds: list[int]) -> None:
    rings = Rings()
    base = 1_700_000_040 - 1_700_000_040 % CHUNK
    times = sorted(set(seconds))
    for t in times:
        rings.append("instance", "i", base + t, row(float(t)))
    end = base + times[-1]
    points = rings.query("instance", "i", end, 600, 1)["points"]["cpu"]
    seen = {end - 599 + i: v for i, v in enumerate(points) if v is not None}
    assert seen == {base + t: float(t) for t in times}


def test_coarser_tiers_hold_the_mean() -> None:
    rings = Rings()
    base = 1_700_000_000 - 1_700_000_000 % 60
    for t in range(120):
        rings.append("instance", "i", base + t, row(float(t)))
    found = rings.query("instance", "i", base + 109, 3600, 10)
    assert found["step_s"] == 10
    assert found["points"]["cpu"][-1] == 104.5
    assert found["points"]["cpu"][0] is None
    assert "threads" not in found["points"]  # not kept beyond ten minutes


def test_the_budget_holds_however_many_series() -> None:
    rings = Rings(budget=4 << 20)
    for t in range(700):
        for i in range(40):
            rings.append("instance", f"i{i}", 1_700_000_000 + t, row(1.0))
    assert rings.size() <= 4 << 20
    assert rings.latest("instance", "i3") is not None


def test_unknown_series_are_empty_and_extra_columns_are_cut() -> None:
    rings = Rings()
    assert rings.query("node", "x", 1_700_000_000, 10, 1)["points"]["cpu"] == [None] * 10
    rings.append("node", "n", 1, [0.5] * (len(HOST) + 3))
    assert set(rings.latest("node", "n") or {}) == {c.name for c in HOST}
    rings.append("node", "n", 2, [0.5])
    assert set(rings.latest("node", "n") or {}) == {"cpu"}
    rings.forget("node", "n")
    assert rings.latest("node", "n") is None
    assert rings.size() == 0
