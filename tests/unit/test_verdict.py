"""`gdos why`: one sentence for whatever is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model.states import State
from gdos.model.verdict import Known, verdict

UP = Known(state=State.RUNNING, reason="", wants_run=True, is_present=True, node="w1", node_state="online", up_s=65.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "running for 1m5s"),
        ({"recent_exits": 2, "last_exit": "ended by SIGSEGV"}, "2 exits within the last hour (the last: ended by"),
        ({"is_stale": True}, "a restart brings it in"),
        ({"wants_run": False, "reason": "pre_stop failed"}, "though it is wanted stopped: pre_stop failed"),
        ({"node_state": "offline", "silent_s": 3700}, "its node w1 is offline, silent for 1h1m; it was"),
        ({"is_acknowledged": False}, "its node has not yet taken over what is wanted of it"),
        ({"state": State.STOPPED, "reason": "exited with code 0"}, "stopped by itself: exited with code 0"),
        ({"state": State.STOPPED, "wants_run": False, "asked": "stop", "asked_by": "ann", "asked_age_s": 5.0},
         "stopped on purpose by ann 5s ago"),
        ({"state": State.STOPPED, "kind": "cron", "next_run": "tomorrow"}, "waits for its time, tomorrow"),
        ({"state": State.STOPPED, "is_watched": True, "reason": "is not running"}, "not running: is not running"),
        ({"state": State.FAILED, "reason": "no such program"}, "not tried again by itself: no such program"),
        ({"state": State.FAILED, "kind": "cron", "reason": "code 3", "next_run": "soon"}, "the next is at soon"),
        ({"state": State.BACKOFF, "reason": "exited with code 3", "restarts": 4}, "code 3, 4 restarts"),
        ({"state": State.PENDING, "task": "its start waits"}, "the node has been asked; its start waits"),
        ({"is_present": False}, "being destroyed"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_a_person_must_know(changes: dict[str, object], said: str) -> None:
    assert said in verdict(replace(UP, **changes))  # type: ignore[arg-type]


words = st.text(alphabet="abc ", max_size=10)


@given(
    st.builds(
        Known,
        state=st.sampled_from(State),
        node_state=st.sampled_from(["online", "offline", "planned"]),
        reason=words,
        task=words,
        last_exit=words,
        node=words,
        next_run=words,
        asked_by=words,
    )
)
def test_there_is_one_line_for_everything(known: Known) -> None:
    assert len(verdict(known).splitlines()) == 1
