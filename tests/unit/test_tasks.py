"""What a report means for the step of a task."""

from __future__ import annotations

from typing import Any

import pytest

from gdos.master.services.tasks import _judge

GOOD: dict[str, Any] = {"event": "", "reason": "why", "is_settled": False, "is_gone": False, "is_current": True}


@pytest.mark.parametrize(
    ("goal", "report", "expected"),
    [
        ("running", {"state": "running", "is_settled": True}, "succeeded"),
        ("running", {"state": "running", "is_settled": True, "is_current": False}, "failed"),
        ("running", {"state": "starting", "event": "start"}, "running"),
        ("running", {"state": "backoff", "event": "retry"}, "failed"),
        ("running", {"state": "backoff"}, "running"),  # it was in trouble before the task began
        ("running", {"state": "failed", "is_settled": True}, "failed"),
        ("running", {"state": "stopped"}, "running"),
        ("running", {"state": "pending", "event": "retry"}, "running"),  # a download that will be tried again
        ("stopped", {"state": "stopped", "is_settled": True}, "succeeded"),
        ("stopped", {"state": "stopping", "event": "stop"}, "running"),
        ("gone", {"state": "destroying"}, "running"),
        ("gone", {"state": "destroying", "is_gone": True}, "succeeded"),
    ],
)
def test_a_report_moves_a_step(goal: str, report: dict[str, Any], expected: str) -> None:
    assert _judge({"goal": goal, "name": "start"}, {**GOOD, **report})[0] == expected
