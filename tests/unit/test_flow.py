"""Tasks as graphs, and rollouts, under any outcome of their steps: nothing out of order, nothing forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model import flow, rollout
from gdos.model.flow import Need, Step, decide
from gdos.model.rollout import Strategy


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, Step]:
    count = draw(st.integers(1, 8))
    steps = {}
    for n in range(count):
        needs = draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set()
        gates = [Need(d, draw(st.sampled_from(["ready", "started", "port", "exit 0"]))) for d in sorted(needs)]
        steps[n] = Step(n, f"step-{n}", "queued", False, gates)
    return steps


def run(steps: dict[int, Step], outcomes: dict[int, str], order: list[int]) -> list[int]:
    """Play a task to its end; returns the order in which steps were asked for."""
    asked: list[int] = []
    opened: set[tuple[int, int]] = set()
    for _ in range(100):
        moves = decide(steps, opened, 0)
        opened |= set(moves.probe)
        for n, reason in moves.cancel.items():
            steps[n] = replace(steps[n], state="cancelled", message=reason)
        for n in moves.issue:
            asked.append(n)
            steps[n] = replace(steps[n], state="running", is_issued=True)
        running = [n for n in order if n in steps and steps[n].state == "running"]
        if running:
            n = running[0]
            good = outcomes[n] == "succeeded"
            steps[n] = replace(
                steps[n], state=outcomes[n], message="because", closed_at=0, is_up=good, is_completed=good
            )
        elif not moves.issue and not moves.cancel and not moves.probe:
            return asked
    raise AssertionError("it never ends")


@given(graphs(), st.data())
def test_every_task_ends_and_nothing_is_asked_for_too_early(steps: dict[int, Step], data: st.DataObject) -> None:
    outcomes = {n: data.draw(st.sampled_from(["succeeded", "succeeded", "failed"])) for n in steps}
    order = data.draw(st.permutations(sorted(steps)))
    asked = run(steps, outcomes, order)
    assert all(s.state not in flow.OPEN for s in steps.values())
    for n in asked:
        assert all(steps[need.step].state == "succeeded" for need in steps[n].needs)
        assert all(asked.index(need.step) < asked.index(n) for need in steps[n].needs)
    for n, step in steps.items():
        if step.state == "cancelled":
            assert any(steps[need.step].state in flow.BAD for need in step.needs)
            root = step.message.split()[2]  # the one that failed, however far away
            assert steps[int(root.split("-")[1])].state == "failed"
        elif n not in asked:
            raise AssertionError(f"{step} was forgotten")


def test_started_does_not_wait_for_ready() -> None:
    steps = {0: Step(0, "db", "running", True, is_up=True), 1: Step(1, "web", "queued", False, [Need(0, "started")])}
    assert decide(steps, (), 0).issue == [1]
    steps[1] = replace(steps[1], needs=[Need(0)])
    assert decide(steps, (), 0).issue == []


def test_a_gate_that_never_opens_says_so() -> None:
    steps = {
        0: Step(0, "db", "succeeded", True, closed_at=1000, is_up=True),
        1: Step(1, "web", "queued", False, [Need(0, "port", "5432", 30)]),
        2: Step(2, "page", "queued", False, [Need(1)]),
    }
    assert decide(steps, (), 2000).probe == [(1, 0)]
    late = decide(steps, (), 40_000)
    said = "not done: the gate `port 5432` of db did not open within 30 s"
    assert late.cancel == {1: said, 2: said}
    assert decide(steps, {(1, 0)}, 40_000).issue == [1]


def test_a_job_that_fails_opens_no_gate() -> None:
    job = Step(0, "migrate", "succeeded", True, closed_at=0, is_up=True)
    web = Step(1, "web", "queued", False, [Need(0, "exit 0")])
    assert decide({0: job, 1: web}, (), 0) == flow.Moves()
    assert decide({0: replace(job, is_completed=True), 1: web}, (), 0).issue == [1]
    assert decide({0: replace(job, is_failed=True), 1: web}, (), 0).cancel[1].endswith("ended, and not with 0")


strategies = st.builds(
    Strategy,
    batch=st.sampled_from(["1", "2", "3", "25%", "50%", "100%", "all"]),
    canary=st.integers(0, 4),
    check=st.booleans(),
)


@given(st.integers(0, 40), strategies)
def test_the_rounds_of_a_rollout_are_all_of_it(count: int, strategy: Strategy) -> None:
    rounds = rollout.sizes(count, strategy)
    assert sum(rounds) == count
    assert all(n > 0 for n in rounds)
    if 0 < strategy.canary < count:
        assert rounds[0] == strategy.canary
    steps = rollout.plan(count, strategy)
    moved = [s.instance for s in steps if s.action == "upgrade"]
    assert moved == list(range(count))
    assert [s.instance for s in steps if s.action == "stage"] == (list(range(count)) if strategy.check else [])


@given(st.integers(1, 12), strategies, st.data())
def test_a_failure_stops_the_rollout_where_it_is(count: int, strategy: Strategy, data: st.DataObject) -> None:
    planned = rollout.plan(count, strategy)
    steps = {n: Step(n, f"step-{n}", "queued", False, p.needs) for n, p in enumerate(planned)}
    bad = data.draw(st.sampled_from(sorted(steps)))
    outcomes = dict.fromkeys(steps, "succeeded") | {bad: "failed"}
    asked = run(steps, outcomes, sorted(steps))
    if planned[bad].action == "stage":
        assert not [n for n in asked if planned[n].action == "upgrade"]  # nothing was touched
    touched = [planned[n].instance for n in asked if planned[n].action == "upgrade"]
    biggest = max(rollout.sizes(count, strategy))
    done = [n for n in asked if planned[n].action == "upgrade" and n != bad and n > bad]
    assert len(done) < biggest  # at most the rest of the same round
    back = rollout.back(range(len(touched)), strategy, len(steps))
    assert sorted(s.instance for s in back) == list(range(len(touched)))
    assert all(s.action == "revert" and s.phase == rollout.BACK for s in back)
    assert all(need.step >= len(steps) for s in back for need in s.needs)


@pytest.mark.parametrize(
    ("count", "batch", "expected"), [(10, "25%", [3, 3, 3, 1]), (3, "all", [3]), (3, "1", [1, 1, 1])]
)
def test_batches(count: int, batch: str, expected: list[int]) -> None:
    assert rollout.sizes(count, Strategy(batch=batch)) == expected
