"""What a node's report means for a step of a task."""

from __future__ import annotations

from typing import Any

from gdos.master.services import changes
from gdos.master.store.reader import Row
from gdos.model.states import TROUBLED, UP, State

GOALS: dict[str, frozenset[State]] = {
    changes.RUNNING: frozenset({State.RUNNING, State.COMPLETED}),
    changes.STOPPED: frozenset({State.STOPPED, State.COMPLETED, State.FAILED}),
    changes.GONE: frozenset(),
    changes.STAGED: frozenset(),
    changes.WATCHED: frozenset({State.RUNNING, State.STOPPED}),
    changes.FINISHED: frozenset({State.COMPLETED}),
}
VERSIONS = frozenset({"stage", "upgrade", "rollback", "revert"})
_RESTING = frozenset({State.STOPPED, State.COMPLETED, State.FAILED})


def judge(step: Row, before: Row, report: dict[str, Any]) -> tuple[str, str]:
    """What a report means for a step: its new state and message."""
    goal, state = step["goal"], State(report["state"])
    if goal == changes.GONE:
        if report["is_gone"]:
            return "succeeded", "gone"
        return "running", report["reason"] or state.value
    if goal == changes.STAGED:
        if report["staged"]:
            return "succeeded", f"{step['value']} is here beside {before['version']}"
        return ("failed", report["staged_error"]) if report["staged_error"] else ("running", f"fetches {step['value']}")
    if step["good_since"] is not None and (state is not State.RUNNING or report["restarts"] != step["restarts"]):
        return "failed", f"did not stay healthy: {report['reason'] or state.value}"
    is_up = goal in (changes.RUNNING, changes.FINISHED)
    needs_release = is_up or step["name"] in ("bring", "upgrade", "rollback", "revert")
    moved_on = step["name"] not in VERSIONS and not report["is_newest"]  # an upgrade was asked for meanwhile
    if report["is_settled"] and needs_release and not report["is_current"] and not moved_on:
        return "failed", report["reason"] or "another version runs"
    if state in GOALS[goal] and report["is_settled"]:
        return "succeeded", state.value
    if before["kind"] == "cron" and report["is_settled"] and state in _RESTING and goal != changes.FINISHED:
        return "succeeded", f"waits for its time, {state.value}"
    if goal in (changes.STOPPED, changes.WATCHED) and report["is_settled"]:
        return "failed", report["reason"] or f"is {state.value}"
    has_failed = state in TROUBLED and report["event"] != ""  # else it was in trouble before this was asked
    if is_up and (has_failed or (report["is_settled"] and state not in UP)):
        return "failed", report["reason"] or f"is {state.value}"
    return "running", report["reason"] or state.value
