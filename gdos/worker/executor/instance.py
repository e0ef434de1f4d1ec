"""One instance on this node: events in, one `step()` each, the new state on disk, a report out.

Owner thread only. What takes time (download, unpacking, hooks, probes, killing a tree) runs in the pool and comes back
as an event; deadlines are timers, so that nothing that hangs can block another instance. Its parts: fetching.py (the
releases), stopping.py (the end), readiness.py (probes), runs.py and
schedule.py (what each start became, and when the next is due), watching.py (adopted services), recovery.py.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gdos.model import restart
from gdos.model.errors import GdosError
from gdos.model.manifest import Manifest
from gdos.model.states import SETTLED, Event, State, step
from gdos.model.values import Exit
from gdos.model.wanted import Action, Actual, Release, Wanted, plan_one
from gdos.wire.messages import Report, Run
from gdos.worker.disk import InstanceFolder, Record
from gdos.worker.drivers.base import Driver, Handle
from gdos.worker.executor import history, hooks, rotate
from gdos.worker.executor.around import Around
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.fetching import NEVER, RETRY_S, Fetching
from gdos.worker.executor.launch import Launch, Start, manifest_of, prepare
from gdos.worker.executor.readiness import Liveness, Readiness
from gdos.worker.executor.runs import Runs
from gdos.worker.executor.schedule import Schedule
from gdos.worker.executor.stopping import Stopping
from gdos.worker.executor.watching import Watching
from gdos.worker.loop import Timer

log = logging.getLogger(__name__)
AT_ONCE_S = 0.02


@dataclass(frozen=True, slots=True)
class _Started:
    """What the pool gives back of a start."""

    launch: Launch
    handle: Handle
    oom: tuple[int, int]


class Instance:
    """See the module. `on_gone` is called when nothing is left of it."""

    def __init__(
        self, around: Around, record: Record, folder: InstanceFolder, on_gone: Callable[[Instance], None]
    ) -> None:
        self.record = record
        self.folder = folder
        self.around = around
        self.on_gone = on_gone
        self.want: Wanted | None = None
        self.jobs = 0  # in the pool
        self.is_asked = False  # to stop; waits for the exit
        self.launch: Launch | None = None
        self.watched = 0  # counts the handles: exits and probes of an earlier one are ignored
        self.fetching = Fetching(self)
        self.stopping = Stopping(self)
        self.runs = Runs(self)
        self.schedule = Schedule(self, self.runs.due)
        self.watching = Watching(self)
        self.is_rotating = False
        self._next_try = 0.0  # of a start, monotonic
        self._started = 0.0  # monotonic
        self._wake: Timer | None = None
        self._probing: Readiness | Liveness | None = None
        self._last: tuple[Any, ...] = ()  # what the master was told
        self.tail: list[str] = []  # the log's end at the last exit
        self._is_unsaved = False

    def actual(self) -> Actual:
        """The facts that a plan is made of."""
        r, want = self.record, self.want
        is_here = want is None or want.external is not None or want.release.sha256 in self.fetching.fetched
        return Actual(
            state=r.state,
            is_busy=self.jobs > 0 or self.is_asked,
            is_alive=r.handle is not None,
            current=r.current,
            fetched=self.fetching.fetched,
            tried=r.tried,
            next_try=self._next_try if is_here else self.fetching.next_try,
            refused=r.refused,
            cleared=r.cleared,
            waits_for_schedule=bool(r.current) and self.manifest().kind == "cron",
            is_watched_only=self.is_watched_only(),
        )

    def is_watched_only(self) -> bool:
        """Adopted, and nobody said how to start it."""
        return self.want is not None and self.want.external is not None and not self.want.external.entrypoint

    def driver(self) -> Driver:
        """How this instance comes to have processes."""
        external = self.want.external if self.want is not None else None
        if external is None or external.pid_strategy == "spawn":
            return self.around.driver
        return self.around.adopter(external)

    # --- wanted

    def wish(self, want: Wanted) -> None:
        """What is wanted now; acts on it."""
        is_new = self.want is None or want.revision != self.want.revision
        self.want = want
        self.record.revision = want.revision
        if is_new:
            self.fetching.next_try = 0.0
        if self.record.handle is not None:  # it runs already: nothing is left of an earlier wish to start
            self.record.tried = (want.start_serial, self.record.tried[1])
        if want.external is not None and want.present:
            self.watching.adopt(want)
        if is_new:
            self.follow_schedule()
        self.reconcile()

    def reconcile(self) -> None:
        """Do what is next, if anything; arm the timer for what has to wait."""
        if self.want is None:
            return
        now = self.around.loop.now()
        actual = self.actual()
        action = plan_one(self.want, actual, now)
        if action is not None:
            _ACTIONS[action](self, self.want)
            return
        self.fetching.stage(self.want)
        if self._wake is not None:
            self._wake.cancel()
        wait = actual.next_try - now
        self._wake = self.around.loop.call_later(wait, self.reconcile) if 0 < wait < NEVER else None
        self.report("")

    def untry(self, want: Wanted | None) -> None:
        """Wanted running, it is to be started; a schedule only when its time comes."""
        is_cron = want is not None and self.record.current != "" and self.manifest().kind == "cron"
        self.record.tried = (want.start_serial, want.restart_serial) if is_cron and want is not None else (-1, -1)

    # --- state

    def to(self, event: Event, reason: str = "", run: Run | None = None) -> None:
        """One transition: table, disk, report, in this order."""
        before = self.record.state
        self.record.state = step(before, event)
        self.record.reason = reason
        self.save()
        self.report(event.value, run)
        why = f" ({reason})" if reason else ""
        log.info("%s: %s -> %s%s", self.record.name, before.value, self.record.state.value, why)

    def note(self, reason: str) -> None:
        """The same state for another reason."""
        self.record.reason = reason
        self.save()
        self.report("")

    def save(self) -> None:
        """The record onto the disk; a full one is tried again."""
        try:
            self.folder.write(self.record)
            self._is_unsaved = False
        except OSError as e:
            if not self._is_unsaved:
                log.error("%s: its state cannot be written (%s); tried again", self.record.name, e.strerror)
            self._is_unsaved = True
            self.around.loop.call_later(RETRY_S, self._save_again)

    def _save_again(self) -> None:
        if self._is_unsaved and self.folder.root.exists():
            self.save()

    def _is_settled(self) -> bool:
        idle = self.want is None or plan_one(self.want, self.actual(), self.around.loop.now()) is None
        if self.is_watched_only() and self.watching.is_unsure and self.record.state is not State.FAILED:
            return False
        return idle and not self.jobs and not self.is_asked and self.record.state in SETTLED

    def report(self, event: str, run: Run | None = None) -> None:
        """Tell the master, when there is something that it does not know."""
        r, settled = self.record, self._is_settled()
        pid = r.handle.process.pid if r.handle else None
        staged, error = self.fetching.staged(self.want), self.fetching.staged_error
        due = self.schedule.next_due
        now = (r.state, r.reason, pid, r.revision, r.restarts, r.current, settled, r.config, staged, error, due)
        if now == self._last and run is None:
            return
        self._last = now
        report = Report(
            seq=0,
            at=self.around.wall(),
            instance=r.id,
            state=r.state.value,
            revision=r.revision,
            event=event,
            reason=r.reason,
            pid=pid,
            started_at=r.started_at if r.handle else None,
            restarts=r.restarts,
            sha256=r.current,
            is_settled=settled,
            log_tail=self.tail,
            run=run,
            config=r.config if r.handle else "",
            staged=staged,
            staged_error=error,
            next_due=due,
        )
        self.around.report(report)

    def in_pool(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Busy until `done` has run on the owner thread; then asks again what is next."""
        self.jobs += 1

        def back(result: Any, error: Exception | None) -> None:
            self.jobs -= 1
            done(result, error)
            self.reconcile()

        self.around.run(work, back)

    # --- start

    def follow_schedule(self) -> None:
        """The schedule of the current release holds while the instance is wanted running."""
        if self.record.current:
            want = self.want
            self.schedule.follow(self.manifest(), want is not None and want.present and want.run)

    def start(self, want: Wanted, due: int | None = None) -> None:
        r = self.record
        serials = (want.start_serial, want.restart_serial)
        if serials != r.tried:
            r.tries = 0
        elif r.tries and due is None:
            r.restarts += 1
        r.tried = serials
        r.launches += 1
        r.due, r.config = due, want.config
        r.log = history.log_name(r.launches) if self.manifest().kind != "service" else ""
        self.stopping.failing, self.tail = "", []
        self.to(Event.START)
        start = Start(r.launches, self.folder.log(r.log))
        node, driver, system, policy = self.around.node(), self.driver(), self.around.system, self.around.log_rotation

        def work() -> _Started:
            rotate.at_start(start.log, policy)
            launch = prepare(want, self.folder, node, start)
            if "pre_start" in launch.hooks:
                hooks.run(launch.hooks["pre_start"], system)
            oom = system.oom_kills(self.folder.mark)
            return _Started(launch, driver.start(launch.spec), oom)

        self.in_pool(work, self._start_done)

    def _start_done(self, result: _Started | None, error: Exception | None) -> None:
        if result is None:
            self.ended(Exit(code=127), f"could not be started: {describe_error(error)}")
            return
        self.launch, self.record.handle, self.record.oom = result.launch, result.handle, result.oom
        self.record.started_at = self.around.wall()
        self._started = self.around.loop.now()
        if self.launch.readiness.kind == "none":
            self.ready()
        else:
            self.save()
            self.report("started")
        self.watch(result.handle)
        self.await_ready()
        self._tidy_up(result.handle)

    def _tidy_up(self, handle: Handle) -> None:
        """Behind the start: what an earlier launch left goes, escapees will be known, old logs are compressed."""
        r, driver, system, policy = self.record, self.driver(), self.around.system, self.around.log_rotation
        is_again = r.launches > 1 and not r.others
        is_adopted = self.want is not None and self.want.external is not None
        keep = self.manifest().keep_runs

        def work() -> None:
            if is_again:
                driver.sweep(handle)
            if not is_adopted:
                system.track(handle.mark, handle.process.pid)
            rotate.tidy(self.folder.app_log, policy)
            history.prune_logs(self.folder.logs, keep)

        self.around.run(work, self._tidied)

    def _tidied(self, _: None, error: Exception | None) -> None:
        if error is not None:
            log.warning("%s: tidying up: %s", self.record.name, describe_error(error))

    def taken_over(self, handle: Handle) -> None:
        """An earlier worker has started it: from now on it is ours to watch."""
        self._started = self.around.loop.now()
        self.to(Event.FOUND, self.record.reason)
        self.watch(handle)

    def try_at(self, at: float) -> None:
        """When the next start may be tried (monotonic seconds)."""
        self._next_try = at

    def watch(self, handle: Handle) -> None:
        """Its end comes as an event."""
        self.watched += 1
        number, loop = self.watched, self.around.loop
        self.driver().watch(handle, lambda exit_: loop.post(lambda: self._exited(number, exit_)))

    def await_ready(self) -> None:
        if self.launch is not None and self.record.state is State.STARTING:
            self._probing = Readiness(self.around, self.launch.readiness, self.ready, self.not_ready)

    def ready(self) -> None:
        if self.record.state is not State.STARTING:
            return
        self.to(Event.READY)
        self.probe_life()
        names = ["post_start"]
        if self.record.switched:
            self.record.switched = False
            self.save()
            names.append("post_upgrade")
        self._run_after(names)
        self.reconcile()

    def _run_after(self, names: list[str]) -> None:
        """Hooks that are told and not asked."""
        found = [self.launch.hooks[n] for n in names if n in self.launch.hooks] if self.launch is not None else []
        system = self.around.system
        for hook in found:
            self.around.run(lambda hook=hook: hooks.run(hook, system), self._tidied)  # type: ignore[misc]

    def not_ready(self, reason: str) -> None:
        """It came up and does not get ready: end it, then the restart policy has the word."""
        if self.record.handle is not None and self.record.state is State.STARTING:
            self.stopping.end(reason)

    def probe_life(self) -> None:
        """From now on it is looked at, as long as it runs."""
        if self.launch is None or self.launch.liveness.kind == "none":
            return
        m = self.launch.manifest
        self._probing = Liveness(
            self.around, self.launch.liveness, m.liveness_interval, m.liveness_failures, self._not_alive
        )

    def _not_alive(self, reason: str) -> None:
        if self.record.handle is not None and self.record.state is State.RUNNING:
            self.stopping.end(reason)

    def stop_probing(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    # --- exit

    def _exited(self, number: int, exit_: Exit) -> None:
        """The main process has ended."""
        handle = self.record.handle
        if number != self.watched or handle is None:
            return
        self.calm()
        self.record.handle = None
        if self.around.loop.now() - self._started >= self.manifest().restart_reset:
            self.record.tries = 0
        reason = self.runs.why(exit_)
        run = self.runs.over(exit_, reason)
        if self.record.state is State.STOPPING:
            self.report("", run)
            self.stopping.ended(handle)
        elif self.is_watched_only():
            self.report("", run)
            self.watching.ended(exit_)
        elif self.record.state is State.UPGRADING:
            self.report("", run)
            self.note(f"{reason} while the new version is fetched")
            driver = self.driver()
            self.in_pool(lambda: driver.kill(handle), self.left)
        else:
            self.ended(exit_, reason, handle, run)
        self.reconcile()

    def calm(self) -> None:
        """No probe, no stop deadline, no exit of the present process counts any more."""
        self.watched += 1
        self.is_asked = False
        self.stop_probing()
        self.stopping.calm()

    def ended(self, exit_: Exit, reason: str, handle: Handle | None = None, run: Run | None = None) -> None:
        """By itself: the restart policy decides. What it left behind goes, unless a new start sweeps at once."""
        manifest = self.manifest()
        verdict = restart.after_exit(manifest, exit_, self.record.tries)
        wait = restart.delay_s(manifest, self.record.tries, random.random())
        at_once = verdict is restart.Verdict.RETRY and wait < AT_ONCE_S
        if handle is not None and not at_once and not self.record.others:
            driver = self.driver()
            self.in_pool(lambda: driver.kill(handle), self.left)
        if verdict is restart.Verdict.RETRY:
            self.record.tries += 1
            self._next_try = self.around.loop.now() + wait
            self.to(Event.RETRY, f"{reason}; started again in {wait:.1f} s", run)
        elif verdict is restart.Verdict.GIVE_UP:
            count = f" after {self.record.tries} restarts" if self.record.tries else ""
            self.to(Event.GIVE_UP, f"{reason}{count}", run)
        else:
            self.to(Event.COMPLETE if verdict is restart.Verdict.COMPLETE else Event.ENDED, reason, run)

    def left(self, left: list[int] | None, error: Exception | None) -> None:
        """What no signal could end is said."""
        if left or error:
            log.error("%s: processes %s are left (%s)", self.record.name, left, error)

    def as_running(self, want: Wanted) -> Wanted:
        """What is wanted, with the release that runs now in place of the wanted one."""
        manifest = self.manifest()
        return Wanted(
            id=want.id,
            name=want.name,
            system=want.system,
            module=want.module,
            revision=want.revision,
            release=Release(manifest.name, manifest.version, self.record.current, 0),
            env=want.env,
            external=want.external,
        )

    def manifest(self) -> Manifest:
        """Of the release that runs, or would; a damaged one counts as one with all defaults."""
        if self.launch is not None:
            return self.launch.manifest
        if self.want is not None and self.want.external is not None:
            return self.want.external
        try:
            return manifest_of(self.folder.release(self.record.current))
        except GdosError as e:
            log.warning("%s: %s", self.record.name, e.detail)
            return Manifest(name="unknown", version="0", entrypoint="unknown")


_ACTIONS: dict[Action, Callable[[Instance, Wanted], None]] = {
    Action.FETCH: lambda i, want: i.fetching.fetch(want),
    Action.CLEAR: lambda i, want: i.fetching.clear(want),
    Action.SWITCH: lambda i, want: i.fetching.switch(want),
    Action.START: Instance.start,
    Action.STOP: lambda i, want: i.stopping.stop(want),
    Action.SETTLE: lambda i, want: i.stopping.settle(want),
    Action.CANCEL: lambda i, want: i.fetching.cancel(want),
    Action.DESTROY: lambda i, want: i.stopping.destroy(want),
}
