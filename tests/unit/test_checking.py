from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from gdos.model import checking
from gdos.model.errors import BadInput


class Inner(msgspec.Struct):
    port: Annotated[int, Meta(ge=1, le=9)]


class Outer(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1)]
    kind: Literal["a", "b"] = "a"
    inner: Inner | None = None
    many: list[Inner] = []
    named: dict[str, Inner] = {}
    ratio: float = 0.0


def paths(value: Any) -> list[str]:
    return sorted(p.path for p in checking.problems_of(Outer, value))


def test_every_problem_has_its_own_path() -> None:
    value = {"name": "", "kind": "c", "inner": {"port": 10}, "many": [{"port": 1}, {}], "named": {"x": {"port": "1"}}}
    assert paths({**value, "more": 1}) == ["inner.port", "kind", "many[1].port", "more", "name", "named.x.port"]


def test_true_is_not_a_number_and_nan_is_no_ratio() -> None:
    assert paths({"name": "a", "inner": {"port": True}}) == ["inner.port"]
    assert paths({"name": "a", "ratio": float("nan")}) == ["ratio"]


def test_load_converts_or_lists() -> None:
    assert checking.load(Outer, {"name": "a", "inner": {"port": 3}}, "x").inner == Inner(3)
    with pytest.raises(BadInput) as caught:
        checking.load(Outer, [], "the body")
    assert "the body" in caught.value.detail


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 12) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "kind", "inner", "many", "named", "port", "ratio"]), inner)
    ),
    max_leaves=10,
)


@given(values)
def test_no_problems_means_that_msgspec_agrees(value: Any) -> None:
    if not checking.problems_of(Outer, value):
        assert isinstance(msgspec.convert(value, Outer), Outer)
