"""Ending one instance: hook, stop program or signal, the wait, then the whole tree; and removing all of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from gdos.model.errors import GdosError
from gdos.model.states import Event, State
from gdos.model.values import Exit
from gdos.model.wanted import Wanted
from gdos.worker.drivers.base import Handle, Spec
from gdos.worker.executor import hooks
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.fetching import RETRY_S
from gdos.worker.executor.launch import Launch, Start, prepare
from gdos.worker.loop import Timer

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance

log = logging.getLogger(__name__)


class Stopping:
    """Owner thread only. A part of its instance."""

    def __init__(self, instance: Instance) -> None:
        self._i = instance
        self._late: Timer | None = None
        self.failing = ""  # why it is ended although it is wanted: then the restart policy has the word

    def calm(self) -> None:
        """No deadline counts any more."""
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def stop(self, want: Wanted) -> None:
        """Wanted stopped, or changed over."""
        i = self._i
        was_running = i.record.state is State.RUNNING
        if i.record.state is not State.STOPPING:
            i.to(Event.STOP)
        if i.record.handle is None:
            self._stopped([], None)
            i.reconcile()
            return
        i.stop_probing()
        i.is_asked = True
        launch = self._launch(want)
        hook = launch.hooks.get("pre_stop") if launch is not None else None
        if hook is None or self.failing or not was_running:  # one that never got ready has nothing to say
            self._ask(launch)
            return
        number = i.watched
        i.around.run(
            lambda: hooks.run(hook, i.around.system), lambda _, error: self._after_hook(want, launch, number, error)
        )

    def end(self, reason: str) -> None:
        """It does not do what it should: ended as a stop is, then the restart policy has the word."""
        self.failing = reason
        if self._i.want is not None:
            self.stop(self._i.want)

    def _after_hook(self, want: Wanted, launch: Launch | None, number: int, error: Exception | None) -> None:
        i = self._i
        if number != i.watched or i.record.state is not State.STOPPING:
            return  # it has ended by itself meanwhile
        still = i.want
        if error is None or still is None or not still.present:
            if error is not None:
                log.warning("%s: %s; removed all the same", i.record.name, describe_error(error))
            self._ask(launch)
            return
        i.is_asked = False
        i.record.refused = still.revision
        i.to(Event.KEPT, f"not stopped, it runs on: {describe_error(error)}")
        i.probe_life()
        i.reconcile()

    def _ask(self, launch: Launch | None) -> None:
        i, handle = self._i, self._i.record.handle
        if handle is None:
            return
        number, driver, timeout = i.watched, i.driver(), i.manifest().stop_timeout
        spec: Spec | None = launch.spec if launch is not None else None
        self._late = i.around.loop.call_later(
            timeout, lambda: self._kill(handle, number, f"did not stop within {timeout} s; killed")
        )

        def told(_: None, error: Exception | None) -> None:
            if error is not None and number == i.watched and i.record.state is State.STOPPING:
                i.note(f"the stop program failed ({describe_error(error)}): the signal was sent instead")
                self._signal(handle, number, replace(spec, stop=None) if spec is not None else None)

        if spec is not None and spec.stop is not None:
            i.around.run(lambda: driver.ask_stop(handle, spec), told)
        else:
            self._signal(handle, number, spec)

    def _signal(self, handle: Handle, number: int, spec: Spec | None) -> None:
        """Nothing to wait for; what cannot be asked is killed."""
        try:
            self._i.driver().ask_stop(handle, spec)
        except (OSError, GdosError, ValueError) as e:
            self._kill(handle, number, f"asking it to stop failed ({describe_error(e)}); killed")

    def _launch(self, want: Wanted) -> Launch | None:
        """How what runs was started; after a restart of the worker worked out again. None: by the default signal."""
        i = self._i
        if i.launch is not None:
            return i.launch
        try:
            start = Start(i.record.launches, i.folder.log(i.record.log), is_running=True)
            return prepare(i.as_running(want), i.folder, i.around.node(), start)
        except GdosError as e:
            log.warning("%s: its stop program cannot be used: %s", i.record.name, e.detail)
            return None

    def _kill(self, handle: Handle, number: int, reason: str) -> None:
        i = self._i
        if number == i.watched and i.record.state is State.STOPPING:
            i.record.reason = reason
            driver = i.driver()
            i.around.run(lambda: driver.kill(handle), lambda left, _: self._killed(handle, number, left))

    def _killed(self, handle: Handle, number: int, left: list[int] | None) -> None:
        """The exit itself comes as an event; only what no signal ends keeps us here."""
        if left and number == self._i.watched:
            reason = f"processes {left} cannot be killed: they hang in the kernel; tried again"
            self._i.note(reason)
            self._i.around.loop.call_later(RETRY_S, lambda: self._kill(handle, number, reason))

    def ended(self, handle: Handle) -> None:
        """The main process is gone: so must be the rest of it, then it is stopped."""
        i, driver = self._i, self._i.driver()
        launch, failing, self.failing = i.launch, self.failing, ""
        hook = launch.hooks.get("post_stop") if launch is not None else None

        def work() -> list[int]:
            left = driver.kill(handle)
            if hook is not None:
                try:
                    hooks.run(hook, i.around.system)
                except GdosError as e:
                    log.warning("%s: %s", i.record.name, e.detail)
            return left

        def done(left: list[int] | None, error: Exception | None) -> None:
            if failing:
                i.left(left, error)
                i.ended(Exit(code=1), failing)
            else:
                self._stopped(left, error)

        i.in_pool(work, done)

    def _stopped(self, left: list[int] | None, error: Exception | None) -> None:
        i = self._i
        reason = i.record.reason or "stopped"
        i.launch = None
        i.record.tries = 0
        i.untry(i.want)  # it did not end by itself: wanted again, it starts again
        i.to(Event.STOPPED, f"{reason}; processes {left} are left" if left else reason)

    def settle(self, want: Wanted) -> None:
        i = self._i
        i.record.tries = 0
        i.untry(want)
        i.to(Event.STOP, "stopped")
        i.reconcile()

    # --- destroy

    def destroy(self, want: Wanted) -> None:
        """Nothing of it stays. Of what was adopted only the record goes: the process is left alone."""
        i = self._i
        if i.record.state is not State.DESTROYING:
            i.to(Event.DESTROY)
        handle, driver, folder, system = i.record.handle, i.driver(), i.folder, i.around.system
        is_ours = want.external is None or want.external.pid_strategy == "spawn"

        def work() -> None:
            if handle is not None and is_ours:
                driver.kill(handle)
            for left in system.marked(hooks.mark_of(folder.mark)):
                system.kill(left)
            folder.destroy()
            system.forget(folder.mark)

        i.jobs += 1
        i.around.run(work, self._destroyed)

    def _destroyed(self, _: None, error: Exception | None) -> None:
        i = self._i
        i.jobs -= 1
        i.calm()
        if error is None:
            i.want = None
            i.on_gone(i)
            return
        i.record.reason = f"its folder cannot be removed ({describe_error(error)}); tried again"
        i.report("")
        i.is_asked = True
        i.around.loop.call_later(RETRY_S, self._destroy_again)

    def _destroy_again(self) -> None:
        self._i.is_asked = False
        self._i.reconcile()
