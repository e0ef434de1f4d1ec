"""One instance on this node: events in, one `step()` each, the new state on disk, a report out.

Owner thread only. What takes time (download, unpacking, probes, killing a tree) runs in the pool and comes back as
an event; deadlines are timers, so that nothing that hangs can block another instance.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from gdos.model import restart
from gdos.model.errors import GdosError, StorageFull
from gdos.model.manifest import Manifest
from gdos.model.states import SETTLED, Event, State, step
from gdos.model.values import Exit
from gdos.model.wanted import Action, Actual, Wanted, plan_one
from gdos.pack.zipguard import Cancelled
from gdos.wire.messages import Report
from gdos.worker.disk import InstanceFolder, Record
from gdos.worker.drivers.base import Handle, Spec
from gdos.worker.executor import rotate
from gdos.worker.executor.around import Around
from gdos.worker.executor.describe import describe_error, describe_exit, log_tail
from gdos.worker.executor.fetch import Refused
from gdos.worker.executor.launch import Launch, manifest_of, prepare
from gdos.worker.executor.readiness import Readiness
from gdos.worker.executor.release import bring
from gdos.worker.loop import Timer

log = logging.getLogger(__name__)
RETRY_S, RETRY_MAX_S = 1.0, 30.0
AT_ONCE_S = 0.02
RELEASES_KEPT = 3
NEVER = float("inf")


class Instance:
    """See the module. `on_gone` is called when nothing is left of it."""

    def __init__(
        self, around: Around, record: Record, folder: InstanceFolder, on_gone: Callable[[Instance], None]
    ) -> None:
        self.record = record
        self.folder = folder
        self.want: Wanted | None = None
        self._around = around
        self._on_gone = on_gone
        self._fetched = folder.fetched()
        self._next_try = 0.0  # monotonic, of a start or a download
        self._fetch_tries = 0
        self._jobs = 0  # in the pool
        self._is_asked = False  # to stop; waits for the exit
        self._cancel = threading.Event()
        self._launch: Launch | None = None
        self._started = 0.0  # monotonic
        self._watched = 0  # counts the handles: exits and probes of an earlier one are ignored
        self._failing = ""  # why a start is being undone
        self._wake: Timer | None = None
        self._stop_late: Timer | None = None
        self._readiness: Readiness | None = None
        self._last: tuple[Any, ...] = ()  # what the master was told
        self._tail: list[str] = []  # the log's end at the last exit
        self._is_unsaved = False

    def actual(self) -> Actual:
        """The facts that a plan is made of."""
        r = self.record
        return Actual(
            state=r.state,
            is_busy=self._jobs > 0 or self._is_asked,
            is_alive=r.handle is not None,
            current=r.current,
            fetched=self._fetched,
            tried=r.tried,
            next_try=self._next_try,
        )

    # --- wanted

    def wish(self, want: Wanted) -> None:
        """What is wanted now; acts on it."""
        is_new = self.want is None or want.revision != self.want.revision
        self.want = want
        self.record.revision = want.revision
        if is_new and self._next_try == NEVER:
            self._next_try = 0.0
        if self.record.handle is not None:  # it runs already: nothing is left of an earlier wish to start
            self.record.tried = (want.start_serial, self.record.tried[1])
        self.reconcile()

    def reconcile(self) -> None:
        """Do what is next, if anything; arm the timer for what has to wait."""
        if self.want is None:
            return
        action = plan_one(self.want, self.actual(), self._around.loop.now())
        if action is not None:
            _ACTIONS[action](self, self.want)
            return
        if self._wake is not None:
            self._wake.cancel()
        wait = self._next_try - self._around.loop.now()
        self._wake = self._around.loop.call_later(wait, self.reconcile) if 0 < wait < NEVER else None
        self._report("")

    # --- state

    def _to(self, event: Event, reason: str = "") -> None:
        """One transition: table, disk, report, in this order."""
        before = self.record.state
        self.record.state = step(before, event)
        self.record.reason = reason
        self._save()
        self._report(event.value)
        why = f" ({reason})" if reason else ""
        log.info("%s: %s -> %s%s", self.record.name, before.value, self.record.state.value, why)

    def _note(self, reason: str) -> None:
        """The same state for another reason."""
        self.record.reason = reason
        self._save()
        self._report("")

    def _save(self) -> None:
        try:
            self.folder.write(self.record)
            self._is_unsaved = False
        except OSError as e:
            if not self._is_unsaved:
                log.error("%s: its state cannot be written (%s); tried again", self.record.name, e.strerror)
            self._is_unsaved = True
            self._around.loop.call_later(RETRY_S, self._save_again)

    def _save_again(self) -> None:
        if self._is_unsaved and self.folder.root.exists():
            self._save()

    def _is_settled(self) -> bool:
        idle = self.want is None or plan_one(self.want, self.actual(), self._around.loop.now()) is None
        return idle and not self._jobs and not self._is_asked and self.record.state in SETTLED

    def _report(self, event: str) -> None:
        """Tell the master, when there is something that it does not know."""
        r, settled = self.record, self._is_settled()
        pid = r.handle.process.pid if r.handle else None
        now = (r.state, r.reason, pid, r.revision, r.restarts, r.current, settled)
        if now == self._last:
            return
        self._last = now
        report = Report(
            seq=0,
            at=self._around.wall(),
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
            log_tail=self._tail,
        )
        self._around.report(report)

    def _in_pool(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Busy until `done` has run on the owner thread; then asks again what is next."""
        self._jobs += 1

        def back(result: Any, error: Exception | None) -> None:
            self._jobs -= 1
            done(result, error)
            self.reconcile()

        self._around.run(work, back)

    # --- fetch and switch

    def _fetch(self, want: Wanted) -> None:
        if self.record.state not in (State.DEPLOYING, State.UPGRADING):
            event = Event.UPGRADE if self.record.current else Event.DEPLOY
            self._to(event, f"fetches {want.release.package} {want.release.version}")
        self._cancel = threading.Event()
        stop, source, cache = self._cancel, self._around.source(), self._around.cache
        self._in_pool(
            lambda: bring(want.release, self.folder, cache, source, stop),
            lambda _, error: self._fetch_done(want, error),
        )

    def _fetch_done(self, want: Wanted, error: Exception | None) -> None:
        self._fetched = self.folder.fetched()
        self._next_try = 0.0
        if error is None:
            self._fetch_tries = 0
        elif isinstance(error, Cancelled):
            self._fetch_failed("no longer wanted", is_final=False)
        elif isinstance(error, Refused) or getattr(error, "code", "") == "bad_package":
            self._next_try = NEVER
            self._fetch_failed(describe_error(error), is_final=True)
        else:
            if isinstance(error, StorageFull):
                self._around.cache.make_room({want.release.sha256})
            wait = min(RETRY_S * 2.0 ** min(self._fetch_tries, 10), RETRY_MAX_S)
            self._fetch_tries += 1
            self._next_try = self._around.loop.now() + wait
            self._fetch_failed(f"{describe_error(error)}; tried again in {wait:.0f} s", is_final=False)

    def _fetch_failed(self, reason: str, *, is_final: bool) -> None:
        is_upgrade = self.record.state is State.UPGRADING
        if is_final and is_upgrade and self.record.handle is not None:
            self._to(Event.KEPT, f"the upgrade failed, the old version runs on: {reason}")
        elif is_final:
            self._to(Event.GIVE_UP, reason)
        elif is_upgrade:
            self._note(reason)
        else:
            self._to(Event.RETRY, reason)

    def _cancel_work(self, want: Wanted) -> None:
        self._cancel.set()

    def _switch(self, want: Wanted) -> None:
        """The wanted release becomes the current one; what is too old goes."""
        keep = {want.release.sha256, self.record.current} - {""}
        self.record.current = want.release.sha256
        self.record.tried = (-1, -1)  # another release is always started, if it is to run
        self.record.tries = 0
        try:
            self.folder.make()
            self.folder.point_current(want.release.sha256)
            self.folder.prune(keep, RELEASES_KEPT)
        except OSError as e:
            log.warning("%s: %s", self.record.name, describe_error(e))
        self._fetched = self.folder.fetched()
        if self.record.state is State.PENDING:
            self._to(Event.DEPLOY)
        if self.record.state in (State.DEPLOYING, State.UPGRADING):
            self._to(Event.DEPLOYED, f"{want.release.package} {want.release.version} is here")
        else:
            self._save()
        self.reconcile()

    # --- start

    def _start(self, want: Wanted) -> None:
        serials = (want.start_serial, want.restart_serial)
        if serials != self.record.tried:
            self.record.tries = 0
        elif self.record.tries:
            self.record.restarts += 1
        self.record.tried = serials
        self.record.launches += 1
        self._failing, self._tail = "", []
        self._to(Event.START)
        number, node, driver, policy = (
            self.record.launches,
            self._around.node(),
            self._around.driver,
            self._around.log_rotation,
        )

        def work() -> tuple[Launch, Handle]:
            rotate.at_start(self.folder.app_log, policy)
            launch = prepare(want, self.folder, node, number)
            return launch, driver.start(launch.spec)

        self._in_pool(work, self._start_done)

    def _start_done(self, result: tuple[Launch, Handle] | None, error: Exception | None) -> None:
        if result is None:
            self._ended(Exit(code=127), f"could not be started: {describe_error(error)}")
            return
        self._launch, handle = result
        self.record.handle = handle
        self.record.started_at = self._around.wall()
        self._started = self._around.loop.now()
        if self._launch.readiness.kind == "none":
            self._to(Event.READY)
        else:
            self._save()
            self._report("started")
        self._watch(handle)
        self._await_ready()
        self._tidy_up(handle)

    def _tidy_up(self, handle: Handle) -> None:
        """Behind the start: what an earlier launch left goes, old logs are compressed."""
        driver, policy, is_again = self._around.driver, self._around.log_rotation, self.record.launches > 1

        def work() -> None:
            if is_again:
                driver.sweep(handle)
            rotate.compress_old(self.folder.app_log, policy)

        self._around.run(work, self._tidied)

    def _tidied(self, _: None, error: Exception | None) -> None:
        if error is not None:
            log.warning("%s: tidying up: %s", self.record.name, describe_error(error))

    def _watch(self, handle: Handle) -> None:
        self._watched += 1
        number, loop = self._watched, self._around.loop
        self._around.driver.watch(handle, lambda exit_: loop.post(lambda: self._exited(number, exit_)))

    def _await_ready(self) -> None:
        if self._launch is not None and self.record.state is State.STARTING:
            self._readiness = Readiness(self._around, self._launch.readiness, self._ready, self._not_ready)

    def _ready(self) -> None:
        if self.record.state is State.STARTING:
            self._to(Event.READY)
            self.reconcile()

    def _not_ready(self, reason: str) -> None:
        """It came up and does not get ready: end it, then the restart policy has the word."""
        handle = self.record.handle
        if handle is not None and self.record.state is State.STARTING:
            self._failing = reason
            self._in_pool(lambda: self._around.driver.kill(handle), self._left)

    # --- exit

    def _exited(self, number: int, exit_: Exit) -> None:
        """The main process has ended."""
        handle = self.record.handle
        if number != self._watched or handle is None:
            return
        self._calm()
        self.record.handle = None
        if self._around.loop.now() - self._started >= self.manifest().restart_reset:
            self.record.tries = 0
        if self.record.state is State.STOPPING:
            self._in_pool(lambda: self._around.driver.kill(handle), self._stopped)
        elif self.record.state is State.UPGRADING:
            self._note(f"{describe_exit(exit_)} while the new version is fetched")
            self._in_pool(lambda: self._around.driver.kill(handle), self._left)
        elif self._failing:
            self._ended(Exit(code=1), self._failing, handle)
        else:
            self._ended(exit_, describe_exit(exit_), handle)
        self.reconcile()

    def _calm(self) -> None:
        """No probe, no stop deadline, no exit of the present process counts any more."""
        self._watched += 1
        self._is_asked = False
        if self._readiness is not None:
            self._readiness.cancel()
            self._readiness = None
        if self._stop_late is not None:
            self._stop_late.cancel()
            self._stop_late = None

    def _ended(self, exit_: Exit, reason: str, handle: Handle | None = None) -> None:
        """By itself: the restart policy decides. What it left behind goes, unless a new start sweeps at once."""
        manifest, self._tail = self.manifest(), log_tail(self.folder.app_log)
        verdict = restart.after_exit(manifest, exit_, self.record.tries)
        wait = restart.delay_s(manifest, self.record.tries, random.random())
        if handle is not None and not (verdict is restart.Verdict.RETRY and wait < AT_ONCE_S):
            self._in_pool(lambda: self._around.driver.kill(handle), self._left)
        if verdict is restart.Verdict.RETRY:
            self.record.tries += 1
            self._next_try = self._around.loop.now() + wait
            self._to(Event.RETRY, f"{reason}; started again in {wait:.1f} s")
        elif verdict is restart.Verdict.GIVE_UP:
            count = f" after {self.record.tries} restarts" if self.record.tries else ""
            self._to(Event.GIVE_UP, f"{reason}{count}")
        else:
            self._to(Event.COMPLETE if verdict is restart.Verdict.COMPLETE else Event.ENDED, reason)

    def _left(self, left: list[int] | None, error: Exception | None) -> None:
        if left or error:
            log.error("%s: processes %s are left (%s)", self.record.name, left, error)

    # --- stop

    def _stop(self, want: Wanted) -> None:
        handle = self.record.handle
        if self.record.state is not State.STOPPING:
            self._to(Event.STOP)
        if handle is None:
            self._stopped([], None)
            self.reconcile()
            return
        if self._readiness is not None:
            self._readiness.cancel()
        self._is_asked = True
        number, driver, timeout = self._watched, self._around.driver, self.manifest().stop_timeout
        spec = self._launch.spec if self._launch else self._spec_again(want, handle)
        self._stop_late = self._around.loop.call_later(
            timeout, lambda: self._kill(handle, number, f"did not stop within {timeout} s; killed")
        )

        def asked(_: None, error: Exception | None) -> None:
            if error is not None:
                self._kill(handle, number, f"asking it to stop failed ({describe_error(error)}); killed")

        self._around.run(lambda: driver.ask_stop(handle, spec), asked)

    def _spec_again(self, want: Wanted, handle: Handle) -> Spec | None:
        """After a restart of the worker: how to stop what an earlier one started. None: by the default signal."""
        running = self._as_running(want)
        try:
            return prepare(running, self.folder, self._around.node(), self.record.launches, is_running=True).spec
        except GdosError as e:
            log.warning("%s: its stop program cannot be used: %s", self.record.name, e.detail)
            return None

    def _as_running(self, want: Wanted) -> Wanted:
        """What is wanted, with the release that runs now in place of the wanted one."""
        manifest = self.manifest()
        release = type(want.release)(manifest.name, manifest.version, self.record.current, 0)
        return Wanted(
            id=want.id,
            name=want.name,
            system=want.system,
            module=want.module,
            revision=want.revision,
            release=release,
            env=want.env,
            variables=want.variables,
        )

    def _kill(self, handle: Handle, number: int, reason: str) -> None:
        if number == self._watched and self.record.state is State.STOPPING:
            self.record.reason = reason
            driver = self._around.driver
            self._around.run(lambda: driver.kill(handle), lambda left, _: self._killed(handle, number, left))

    def _killed(self, handle: Handle, number: int, left: list[int] | None) -> None:
        """The exit itself comes as an event; only what no signal ends keeps us here."""
        if left and number == self._watched:
            reason = f"processes {left} cannot be killed: they hang in the kernel; tried again"
            self._note(reason)
            self._around.loop.call_later(RETRY_S, lambda: self._kill(handle, number, reason))

    def _stopped(self, left: list[int] | None, error: Exception | None) -> None:
        reason = self.record.reason or "stopped"
        self._launch = None
        self.record.tries, self.record.tried = 0, (-1, -1)  # it did not end by itself: wanted again, it starts again
        self._to(Event.STOPPED, f"{reason}; processes {left} are left" if left else reason)

    def _settle(self, want: Wanted) -> None:
        self.record.tries, self.record.tried = 0, (-1, -1)
        self._to(Event.STOP, "stopped")
        self.reconcile()

    # --- destroy

    def _destroy(self, want: Wanted) -> None:
        if self.record.state is not State.DESTROYING:
            self._to(Event.DESTROY)
        handle, driver, folder = self.record.handle, self._around.driver, self.folder

        def work() -> None:
            if handle is not None:
                driver.kill(handle)
            folder.destroy()

        self._jobs += 1
        self._around.run(work, self._destroyed)

    def _destroyed(self, _: None, error: Exception | None) -> None:
        self._jobs -= 1
        self._calm()
        if error is None:
            self.want = None
            self._on_gone(self)
            return
        self.record.reason = f"its folder cannot be removed ({describe_error(error)}); tried again"
        self._report("")
        self._is_asked = True
        self._around.loop.call_later(RETRY_S, self._destroy_again)

    def _destroy_again(self) -> None:
        self._is_asked = False
        self.reconcile()

    # --- after a restart of the worker

    def recover(self) -> None:
        """Find the process again, or do what its end asks for. There is no other first step."""
        r = self.record
        before, was_up = r.handle, r.state in (State.STARTING, State.RUNNING)
        found = self._around.driver.recover(before, self.folder.mark)
        r.handle = found
        if found is not None:
            if found != before:
                r.started_at = self._around.wall()
            self._started = self._around.loop.now()
            self._to(Event.FOUND, r.reason)
            self._watch(found)
            self._probe_again()
        elif was_up and before is not None and before.process.boot == self._around.boot:
            self._ended(Exit(), "ended while the worker was away", before)
        elif r.state is State.BACKOFF:
            self._next_try = self._around.loop.now()
        else:
            if was_up:
                r.tried = (-1, -1)
            self._to(Event.LOST, "the node was restarted" if was_up else r.reason)

    def _probe_again(self) -> None:
        """A start that the last worker did not see to its end is probed anew."""
        if self.want is None or self.record.state is not State.STARTING:
            return
        running, node = self._as_running(self.want), self._around.node()
        try:
            self._launch = prepare(running, self.folder, node, self.record.launches, is_running=True)
        except GdosError as e:
            log.warning("%s: it cannot be probed: %s", self.record.name, e.detail)
        if self._launch is None or self._launch.readiness.kind == "none":
            self._to(Event.READY)
        else:
            self._await_ready()

    def manifest(self) -> Manifest:
        """Of the release that runs, or would; a damaged one counts as one with all defaults."""
        if self._launch is not None:
            return self._launch.manifest
        try:
            return manifest_of(self.folder.release(self.record.current))
        except GdosError as e:
            log.warning("%s: %s", self.record.name, e.detail)
            return Manifest(name="unknown", version="0", entrypoint="unknown")


_ACTIONS: dict[Action, Callable[[Instance, Wanted], None]] = {
    Action.FETCH: Instance._fetch,
    Action.SWITCH: Instance._switch,
    Action.START: Instance._start,
    Action.STOP: Instance._stop,
    Action.SETTLE: Instance._settle,
    Action.CANCEL: Instance._cancel_work,
    Action.DESTROY: Instance._destroy,
}
