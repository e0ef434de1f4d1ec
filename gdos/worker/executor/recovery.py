"""After a restart of the worker: each instance finds its process again, or does what its end asks for.

Owner thread only. There is no other first step.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gdos.model.errors import GdosError
from gdos.model.states import Event, State
from gdos.model.values import Exit
from gdos.worker import livelog
from gdos.worker.drivers.base import Handle
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.launch import Start, prepare
from gdos.worker.executor.watching import GONE

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance

log = logging.getLogger(__name__)
AWAY = "ended while the worker was away"


def recover(i: Instance) -> None:
    """Once, before anything is asked of the instance."""
    r = i.record
    try:
        livelog.mend(i.folder.log(r.log), i.folder.app_log.with_name("app.log.1"))
    except OSError as e:
        log.warning("%s: %s", r.name, describe_error(e))
    i.runs.recover()
    if i.is_watched_only():
        _recover_watched(i)
    else:
        _recover_own(i)
    i.follow_schedule()


def _recover_own(i: Instance) -> None:
    r, before = i.record, i.record.handle
    was_up = r.state in (State.STARTING, State.RUNNING)
    r.handle = _find(i, before)
    if r.handle is not None:
        if r.handle != before:
            r.started_at = i.around.wall()
        i.taken_over(r.handle)
        _probe_again(i)
    elif was_up and before is not None and before.process.boot == i.around.boot:
        i.ended(Exit(), AWAY, before, i.runs.over(Exit(), AWAY))
    elif r.state is State.STOPPING and before is not None:
        i.stopping.ended(before)  # what it left behind goes; then it is stopped, and starts again where it is wanted
    elif r.state is State.BACKOFF:
        i.try_at(i.around.loop.now())
    else:
        if was_up:
            i.untry(i.want)
        i.to(Event.LOST, "the node was restarted" if was_up else r.reason)


def _recover_watched(i: Instance) -> None:
    """Nobody of ours has started it: it is still the same process, or it is looked for."""
    r, before = i.record, i.record.handle
    if before is not None and i.around.system.is_alive(before.process):
        i.watching.is_unsure = False
        i.taken_over(before)
        i.ready()
        return
    r.handle = None
    run = i.runs.over(Exit(), AWAY) if before is not None else None
    i.to(Event.LOST, GONE if before is not None else r.reason, run)


def _find(i: Instance, before: Handle | None) -> Handle | None:
    """By its handle, or by its mark; not by the mark while other runs of the same schedule carry it too."""
    if before is None and i.record.others:
        return None
    return i.driver().recover(before, i.folder.mark)


def _probe_again(i: Instance) -> None:
    """A start that the last worker did not see to its end is probed anew, and life goes on being looked at."""
    if i.want is None or i.record.state not in (State.STARTING, State.RUNNING):
        return
    try:
        start = Start(i.record.launches, i.folder.log(i.record.log), is_running=True)
        i.launch = prepare(i.as_running(i.want), i.folder, i.around.node(), start)
    except GdosError as e:
        log.warning("%s: it cannot be probed: %s", i.record.name, e.detail)
    if i.record.state is State.RUNNING:
        i.probe_life()
    elif i.launch is None or i.launch.readiness.kind == "none":
        i.ready()
    else:
        i.await_ready()
