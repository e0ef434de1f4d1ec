from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model.errors import StateError
from gdos.model.states import SETTLED, TRANSITIONS, Event, State, mermaid, step


def test_every_state_is_reachable_and_every_event_is_used() -> None:
    reached, waiting = {State.PENDING}, [State.PENDING]
    while waiting:
        for target in TRANSITIONS[waiting.pop()].values():
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    assert reached == set(State) == set(TRANSITIONS)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_every_state_can_be_destroyed_and_recovered() -> None:
    for row in TRANSITIONS.values():
        assert row[Event.DESTROY] is State.DESTROYING
        assert Event.LOST in row


@given(st.lists(st.sampled_from(Event)))
def test_any_order_of_events_ends_in_a_state_or_in_a_clear_error(events: list[Event]) -> None:
    state = State.PENDING
    for event in events:
        try:
            state = step(state, event)
        except StateError as e:
            assert event.value in e.detail
            assert state.value in e.detail
        assert isinstance(state, State)


def test_an_illegal_event_raises() -> None:
    with pytest.raises(StateError, match="ready is not possible in state stopped"):
        step(State.STOPPED, Event.READY)


def test_nothing_is_settled_while_something_is_under_way() -> None:
    assert not SETTLED & {State.DEPLOYING, State.STARTING, State.STOPPING, State.UPGRADING, State.DESTROYING}


def test_the_diagram_names_every_state() -> None:
    text = mermaid()
    assert all(state.value in text for state in State)
