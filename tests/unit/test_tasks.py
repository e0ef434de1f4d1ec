"""What a report means for the step of a task."""

from __future__ import annotations

from typing import Any

import pytest

from gdos.master.services.judging import judge

GOOD: dict[str, Any] = {
    "event": "", "reason": "why", "is_settled": False, "is_gone": False, "is_current": True, "restarts": 0,
    "staged": "", "staged_error": "", "is_newest": True,
}  # fmt: skip
STEP: dict[str, Any] = {"name": "start", "value": "2", "good_since": None, "restarts": 0}
INSTANCE = {"kind": "service", "version": "1"}


@pytest.mark.parametrize(
    ("goal", "report", "expected"),
    [
        ("running", {"state": "running", "is_settled": True}, "succeeded"),
        ("running", {"state": "running", "is_settled": True, "is_current": False}, "failed"),
        ("running", {"state": "running", "is_settled": True, "is_current": False, "is_newest": False}, "succeeded"),
        ("running", {"state": "starting", "event": "start"}, "running"),
        ("running", {"state": "backoff", "event": "retry"}, "failed"),
        ("running", {"state": "backoff"}, "running"),  # it was in trouble before the task began
        ("running", {"state": "failed", "is_settled": True}, "failed"),
        ("running", {"state": "stopped"}, "running"),
        ("running", {"state": "pending", "event": "retry"}, "running"),  # a download that will be tried again
        ("stopped", {"state": "stopped", "is_settled": True}, "succeeded"),
        ("stopped", {"state": "stopping", "event": "stop"}, "running"),
        ("stopped", {"state": "running", "is_settled": True}, "failed"),  # a hook refused the stop
        ("staged", {"state": "running", "is_settled": True}, "running"),
        ("staged", {"state": "running", "staged": "a" * 64}, "succeeded"),
        ("staged", {"state": "running", "staged_error": "no such program"}, "failed"),
        ("gone", {"state": "destroying"}, "running"),
        ("gone", {"state": "destroying", "is_gone": True}, "succeeded"),
    ],
)
def test_a_report_moves_a_step(goal: str, report: dict[str, Any], expected: str) -> None:
    assert judge({**STEP, "goal": goal}, INSTANCE, {**GOOD, **report})[0] == expected


@pytest.mark.parametrize(
    ("kind", "name", "state", "expected"),
    [
        ("cron", "start", "stopped", "succeeded"),  # a schedule waits for its time
        ("cron", "start", "failed", "succeeded"),
        ("cron", "run", "failed", "failed"),
        ("cron", "run", "running", "running"),  # until it has ended
        ("job", "run", "completed", "succeeded"),
        ("service", "start", "stopped", "failed"),
        ("job", "start", "completed", "succeeded"),
    ],
)
def test_a_schedule_is_up_while_it_waits(kind: str, name: str, state: str, expected: str) -> None:
    report = {**GOOD, "state": state, "is_settled": True}
    step = {**STEP, "goal": "finished" if name == "run" else "running", "name": name}
    assert judge(step, {**INSTANCE, "kind": kind}, report)[0] == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"state": "running", "restarts": 0, "is_settled": True}, "succeeded"),
        ({"state": "running", "restarts": 1, "is_settled": True}, "failed"),
        ({"state": "backoff", "event": "retry"}, "failed"),
    ],
)
def test_on_trial_nothing_may_happen(report: dict[str, Any], expected: str) -> None:
    step = {**STEP, "goal": "running", "name": "upgrade", "good_since": 1}
    assert judge(step, INSTANCE, {**GOOD, **report})[0] == expected
