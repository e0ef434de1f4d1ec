"""The heart of the worker by property: whatever the start and the wishes, it ends as wanted and then rests."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gdos.model.states import Event, State, step
from gdos.model.wanted import Action, Actual, Release, Wanted, merge, plan, plan_one

RELEASES = [Release("app", f"{n}.0", str(n) * 64, 100) for n in (1, 2, 3)]
releases = st.sampled_from(RELEASES)
serials = st.integers(0, 2)
wishes = st.builds(
    Wanted,
    id=st.just("i-1"),
    name=st.just("app-1"),
    system=st.just("s"),
    module=st.just("m"),
    revision=st.integers(0, 9),
    present=st.booleans(),
    run=st.booleans(),
    release=releases,
    start_serial=serials,
    restart_serial=serials,
)


@dataclass
class World:
    """Performs actions as the worker does, at once and without failures."""

    state: State = State.PENDING
    is_alive: bool = False
    current: str = ""
    fetched: set[str] = field(default_factory=set)
    tried: tuple[int, int] = (-1, -1)
    is_gone: bool = False
    starts: int = 0
    cleared: str = ""

    def actual(self) -> Actual:
        return Actual(
            state=self.state,
            is_alive=self.is_alive,
            current=self.current,
            fetched=frozenset(self.fetched),
            tried=self.tried,
            cleared=self.cleared,
        )

    def do(self, action: Action, want: Wanted) -> None:
        if action is Action.FETCH:
            if self.state not in (State.DEPLOYING, State.UPGRADING):
                self.state = step(self.state, Event.UPGRADE if self.current else Event.DEPLOY)
            self.fetched.add(want.release.sha256)
        elif action is Action.CLEAR:
            assert self.current, "a first release replaces nothing"
            self.cleared = want.release.sha256
        elif action is Action.SWITCH:
            assert self.cleared == want.release.sha256 or not self.current
            assert not self.is_alive, "a release may not be pulled away from a running process"
            self.current, self.tried = want.release.sha256, (-1, -1)
            if self.state is State.PENDING:
                self.state = step(self.state, Event.DEPLOY)
            if self.state in (State.DEPLOYING, State.UPGRADING):
                self.state = step(self.state, Event.DEPLOYED)
        elif action is Action.START:
            assert not self.is_alive, "never two processes for one instance"
            assert self.current == want.release.sha256
            self.state = step(step(self.state, Event.START), Event.READY)
            self.is_alive, self.tried = True, (want.start_serial, want.restart_serial)
            self.starts += 1
        elif action is Action.STOP:
            if self.state is not State.STOPPING:
                self.state = step(self.state, Event.STOP)
            self.state, self.is_alive, self.tried = step(self.state, Event.STOPPED), False, (-1, -1)
        elif action is Action.SETTLE:
            self.state, self.tried = step(self.state, Event.STOP), (-1, -1)
        elif action is Action.DESTROY:
            assert not self.is_alive
            self.state = step(self.state, Event.DESTROY)
            self.is_gone = True


def settle(world: World, want: Wanted) -> int:
    """Act until nothing is left to do; the number of actions."""
    for count in range(20):
        action = plan_one(want, world.actual(), 0.0)
        if action is None or world.is_gone:
            return count
        world.do(action, want)
    raise AssertionError(f"it never rests: {world}")


def check(world: World, want: Wanted) -> None:
    if not want.present:
        assert world.is_gone
    else:
        assert world.current == want.release.sha256
        assert world.is_alive is want.run
        assert world.state is (State.RUNNING if want.run else State.STOPPED)


@given(st.lists(wishes, min_size=1, max_size=6))
def test_whatever_was_wanted_before_it_ends_as_wanted_now(history: list[Wanted]) -> None:
    world = World()
    for want in history:
        settle(world, want)
        check(world, want)
        if world.is_gone:
            world = World()


def test_what_was_stopped_and_is_wanted_again_starts_without_being_asked_by_a_serial() -> None:
    world = World()
    for run in (True, False, True):
        want = Wanted(id="i", name="n", system="s", module="m", revision=1, release=RELEASES[0], run=run)
        settle(world, want)
        check(world, want)


@given(wishes)
def test_asking_twice_does_nothing_twice(want: Wanted) -> None:
    world = World()
    settle(world, want)
    starts = world.starts
    if not world.is_gone:
        assert settle(world, want) == 0
        assert world.starts == starts


@given(wishes, st.sampled_from(State), st.booleans(), releases)
def test_a_busy_instance_is_only_ever_cancelled(want: Wanted, state: State, alive: bool, current: Release) -> None:
    actual = Actual(state=state, is_busy=True, is_alive=alive, current=current.sha256)
    assert plan_one(want, actual, 0.0) in (None, Action.CANCEL)


@given(wishes, st.sampled_from([State.BACKOFF, State.PENDING]), st.floats(0, 100))
def test_back_off_is_waited_for(want: Wanted, state: State, now: float) -> None:
    tried = (want.start_serial, want.restart_serial)
    fetched = frozenset([want.release.sha256]) if state is State.BACKOFF else frozenset[str]()
    actual = Actual(state=state, current=want.release.sha256, fetched=fetched, tried=tried, next_try=50.0)
    action = plan_one(want, actual, now)
    if now < 50.0 and want.present and want.run:
        assert action is None
    if now >= 50.0 and want.present and want.run:
        assert action in (Action.START, Action.FETCH)


def test_a_restart_is_asked_for_by_its_serial() -> None:
    want = Wanted(id="i", name="n", system="s", module="m", revision=1, release=RELEASES[0])
    world = World()
    settle(world, want)
    again = Wanted(id="i", name="n", system="s", module="m", revision=2, release=RELEASES[0], restart_serial=1)
    settle(world, again)
    assert world.starts == 2
    check(world, again)


def test_a_failed_instance_starts_again_only_when_asked() -> None:
    want = Wanted(id="i", name="n", system="s", module="m", revision=1, release=RELEASES[0])
    sha = RELEASES[0].sha256
    failed = Actual(state=State.FAILED, current=sha, fetched=frozenset([sha]), tried=(0, 0))
    assert plan_one(want, failed, 0.0) is None
    assert plan({"i": want}, {"i": failed}, 0.0) == {}
    asked = Wanted(id="i", name="n", system="s", module="m", revision=2, release=RELEASES[0], start_serial=1)
    assert plan({"i": asked}, {"i": failed}, 0.0) == {"i": Action.START}


def test_a_wanted_list_that_says_nothing_of_an_instance_leaves_it_alone() -> None:
    old = Wanted(id="i-old", name="n", system="s", module="m", revision=5, release=RELEASES[0])
    new = Wanted(id="i-new", name="n", system="s", module="m", revision=6, release=RELEASES[0])
    merged = merge({"i-old": old}, [new], full=True)
    assert set(merged) == {"i-old", "i-new"}


def test_an_older_change_does_not_replace_a_newer_one() -> None:
    new = Wanted(id="i", name="n", system="s", module="m", revision=6, release=RELEASES[0], run=False)
    old = Wanted(id="i", name="n", system="s", module="m", revision=5, release=RELEASES[0], run=True)
    assert merge({"i": new}, [old], full=False)["i"] is new


@given(wishes.filter(lambda w: w.present and not w.run))
def test_a_refused_stop_is_not_tried_again_before_another_wish(want: Wanted) -> None:
    alive = Actual(
        state=State.RUNNING, is_alive=True, current=want.release.sha256, fetched=frozenset([want.release.sha256])
    )
    refused = structs.replace(alive, refused=want.revision)
    assert plan_one(want, alive, 0.0) is Action.STOP
    assert plan_one(want, refused, 0.0) is None
    assert plan_one(structs.replace(want, revision=want.revision + 1), refused, 0.0) is Action.STOP
    assert plan_one(structs.replace(want, present=False), refused, 0.0) is Action.STOP


@given(wishes.filter(lambda w: w.present and w.run))
def test_a_schedule_is_started_by_its_time_or_by_a_person(want: Wanted) -> None:
    serials = (want.start_serial, want.restart_serial)
    here = {"current": want.release.sha256, "fetched": frozenset([want.release.sha256]), "waits_for_schedule": True}
    assert plan_one(want, Actual(state=State.STOPPED, tried=serials, **here), 0.0) is None
    assert plan_one(want, Actual(state=State.FAILED, tried=serials, **here), 0.0) is None
    assert plan_one(want, Actual(state=State.BACKOFF, tried=serials, next_try=1.0, **here), 2.0) is Action.START
    asked = structs.replace(want, start_serial=want.start_serial + 1)
    assert plan_one(asked, Actual(state=State.COMPLETED, tried=serials, **here), 0.0) is Action.START


@given(wishes)
def test_what_is_only_watched_is_never_touched(want: Wanted) -> None:
    for state in State:
        for alive in (True, False):
            action = plan_one(want, Actual(state=state, is_alive=alive, is_watched_only=True), 0.0)
            assert action is (None if want.present else Action.DESTROY)
