from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model.manifest import Limits, Manifest
from gdos.model.placement import Candidate, Placement, choose, objection

APP = Manifest(name="app", version="1", entrypoint="x")


def node(name: str = "a", **more: object) -> Candidate:
    fields = {"state": "online", "os": "linux", "arch": "amd64", "free_memory": 4 << 30, "cpu": 0.1, "cores": 4}
    return Candidate(id=name, name=name, **{**fields, **more})  # type: ignore[arg-type]


nodes = st.lists(
    st.builds(
        node,
        name=st.sampled_from("abcdef"),
        state=st.sampled_from(["online", "online", "offline"]),
        labels=st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["x", "y"])),
        free_memory=st.one_of(st.none(), st.integers(0, 8 << 30)),
        same_module=st.integers(0, 3),
    ),
    max_size=6,
    unique_by=lambda n: n.name,
)
wishes = st.builds(
    Placement,
    labels=st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["x", "*", "!y"]), max_size=1),
    max_per_node=st.integers(0, 2),
    memory=st.sampled_from(["", "1G", "4G"]),
    spread=st.sampled_from(["node", "zone"]),
)


@given(nodes, wishes)
def test_the_chosen_one_fits_and_every_node_has_its_reason(found: list[Candidate], wish: Placement) -> None:
    best, reasons = choose(found, APP, wish)
    assert sorted(r.node for r in reasons) == sorted(n.name for n in found)
    fitting = [n for n in found if not objection(n, APP, wish)]
    assert (best is None) == (not fitting)
    assert [r.verdict for r in reasons].count("chosen") == int(best is not None)
    if best is not None:
        assert objection(best, APP, wish) == ""
        assert reasons[0].node == best.name
    for reason in reasons:
        assert reason.node in reason.text or reason.verdict != "ruled out"


@given(st.integers(1, 20), st.integers(1, 5))
def test_instances_are_spread_evenly(count: int, size: int) -> None:
    found = [node(name) for name in "abcde"[:size]]
    for n in range(count):
        best, _ = choose(found, APP, Placement())
        assert best is not None
        best.take(f"app-{n}", [])
    placed = [n.same_module for n in found]
    assert max(placed) - min(placed) <= 1


def test_spread_by_a_label_comes_before_spread_by_node() -> None:
    found = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "1"}), node("c", labels={"zone": "2"})]
    placed = []
    for _ in range(4):
        best, _ = choose(found, APP, Placement(spread="zone"))
        assert best is not None
        best.take("x", [])
        placed.append(best.labels["zone"])
    assert sorted(placed) == ["1", "1", "2", "2"]


@pytest.mark.parametrize(
    ("candidate", "wish", "said"),
    [
        (node(state="offline"), Placement(), "a is offline"),
        (node(labels={"zone": "x"}), Placement(labels={"zone": "y"}), "a has zone=x, zone=y is asked for"),
        (node(), Placement(labels={"zone": "*"}), "a has no label zone, zone=* is asked for"),
        (node(free_memory=1 << 20), Placement(memory="1G"), "a has 1.0 MiB of memory free, 1.0 GiB are needed"),
        (node(arch="arm64"), Placement(arch="amd64"), "a is arm64, amd64 is asked for"),
        (node(same_module=2), Placement(max_per_node=2), "a has 2 of it, at most 2 are allowed"),
        (node(), Placement(nodes=["b"]), "a is none of b"),
        (node(cores=1), Placement(cpu=2), "a has 1 cores, 2 are needed"),
        (node(allow=["terminal"]), Placement(), "the worker on a does not allow deploy (--allow terminal)"),
    ],
)
def test_what_rules_a_node_out_is_said(candidate: Candidate, wish: Placement, said: str) -> None:
    assert objection(candidate, APP, wish) == said


def test_the_manifests_own_limits_count_and_ports_clash() -> None:
    big = Manifest(name="app", version="1", entrypoint="x", limits=Limits(memory="8G"), ports={"http": 80})
    assert "8.0 GiB are needed" in objection(node(), big, Placement())
    assert objection(node(), big, Placement(), is_named=True) == ""
    assert objection(node(ports={80: "s/other"}), big, Placement(), is_named=True).endswith("claimed by s/other")
