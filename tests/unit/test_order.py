from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model.errors import BadInput
from gdos.model.order import circle, waves

NAMES = "abcdefgh"
graphs = st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), max_size=3))


@given(graphs)
def test_a_graph_has_waves_or_a_circle_that_is_named(graph: dict[str, set[str]]) -> None:
    round_ = circle(graph)
    if round_:
        assert round_[0] == round_[-1]
        assert all(after in graph[before] for before, after in zip(round_, round_[1:], strict=False))
        with pytest.raises(BadInput, match=" -> ".join(round_)):
            waves(graph)
        return
    found = waves(graph)
    assert sorted(name for wave in found for name in wave) == sorted(graph)
    at = {name: number for number, wave in enumerate(found) for name in wave}
    for name, needs in graph.items():
        assert all(at[need] < at[name] for need in needs if need in graph)
        assert at[name] == max((at[need] + 1 for need in needs if need in graph), default=0)  # as early as it can be


def test_a_diamond_has_three_waves() -> None:
    assert waves({"web": {"api", "jobs"}, "api": {"db"}, "jobs": {"db"}, "db": set()}) == [
        ["db"],
        ["api", "jobs"],
        ["web"],
    ]
