"""Services that were adopted: brought under care as they are, and, when nobody said how to start them, only watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from gdos.model.states import Event, State
from gdos.model.values import Exit
from gdos.model.wanted import Wanted
from gdos.worker.drivers.base import Handle
from gdos.worker.executor.describe import describe_error
from gdos.worker.loop import Timer

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance

LOOK_S = 2.0
GONE = "is not running; it is looked for every 2 s"


class Watching:
    """Owner thread only. A part of its instance."""

    def __init__(self, instance: Instance) -> None:
        self._i = instance
        self._timer: Timer | None = None
        self._is_looking = False
        self.is_unsure = True  # nobody has looked yet

    def adopt(self, want: Wanted) -> None:
        """It is wanted here: there is nothing to fetch."""
        i = self._i
        if i.record.state is State.PENDING:
            if "adopt" not in i.around.allow:
                allowed = ",".join(sorted(i.around.allow))
                i.to(Event.GIVE_UP, f"this worker does not allow adopt (--allow {allowed})")
                return
            i.folder.make()
            i.to(Event.DEPLOY)
            i.to(Event.DEPLOYED, "adopted" if want.external and want.external.entrypoint else GONE)
        if i.record.handle is None:
            i.launch = None
        if i.is_watched_only() and self._timer is None:
            self._look()

    def _look(self) -> None:
        i = self._i
        self._timer = None
        if i.want is None or not i.want.present or not i.is_watched_only():
            return
        self._timer = i.around.loop.call_later(LOOK_S, self._look)
        if i.record.handle is None and not self._is_looking and i.record.state is not State.DESTROYING:
            self._is_looking = True
            driver, mark = i.driver(), i.folder.mark
            i.around.run(lambda: _find(driver.recover(None, mark)), self._seen)

    def _seen(self, found: tuple[Handle, int] | None, error: Exception | None) -> None:
        i = self._i
        self._is_looking, self.is_unsure = False, False
        if i.want is None or not i.want.present or i.record.state is State.DESTROYING:
            return
        if found is None:
            reason = GONE if error is None else describe_error(error)
            if i.record.state is State.STOPPED and i.record.reason != reason:
                i.note(reason)
            i.report("")
            return
        i.record.handle, i.record.started_at = found
        i.record.config = i.want.config
        i.to(Event.FOUND)
        i.to(Event.READY)
        i.watch(found[0])

    def ended(self, exit_: Exit) -> None:
        """What is only watched has ended: from now on it is looked for."""
        self._i.to(Event.ENDED, GONE if exit_.code is None else f"ended with {exit_.code}; {GONE}")
        self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._look()


def _find(handle: Handle | None) -> tuple[Handle, int] | None:
    """In the pool: with the time of its start, which may be long ago."""
    if handle is None:
        return None
    try:
        return handle, int(psutil.Process(handle.process.pid).create_time() * 1000)
    except psutil.Error:
        return None
