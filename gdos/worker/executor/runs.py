"""Each start of an instance and what became of it: exits in words, the history, runs that a schedule asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdos.model.states import Event, State
from gdos.model.values import Exit
from gdos.wire.messages import Run
from gdos.worker.disk import OtherRun
from gdos.worker.executor import history
from gdos.worker.executor.describe import describe_exit, log_tail

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance


class Runs:
    """Owner thread only. A part of its instance."""

    def __init__(self, instance: Instance) -> None:
        self._i = instance

    def recover(self) -> None:
        """After a restart of the worker: which of the runs beside the present one go on."""
        for other in list(self._i.record.others):
            if self._i.around.driver.recover(other.handle, self._i.folder.mark) is None:
                self._exited(other, Exit())
            else:
                self._watch(other)

    def due(self, due: int) -> None:
        """A schedule asks for a run."""
        want, r = self._i.want, self._i.record
        if want is None or not (want.present and want.run) or self._i.is_asked or self._i.jobs:
            self._skip(due, "something else was under way")
        elif r.handle is None:
            self._i.start(want, due)
        elif self._i.manifest().overlap == "allow":
            r.others.append(OtherRun(r.launches, r.handle, r.started_at or 0, r.log, r.due))
            self._i.calm()
            self._watch(r.others[-1])
            r.handle = None
            self._i.to(Event.ENDED, "goes on beside the next run")
            self._i.start(want, due)
        else:
            self._skip(due, "the run before goes on")

    def _skip(self, due: int, why: str) -> None:
        now = self._i.around.wall()
        run = Run(number=0, started_at=now, ended_at=now, due=due, reason=f"skipped: {why}", skipped=True)
        history.add(self._i.folder.root, run)
        self._i.save()
        self._i.report("", run)

    def why(self, exit_: Exit) -> str:
        """How it ended in words; a death by the kernel's memory killer is named."""
        reason = describe_exit(exit_)
        own, all_ = self._i.around.system.oom_kills(self._i.folder.mark)
        limits = self._i.manifest().limits
        if own > self._i.record.oom[0]:
            limit = f" of its limit of {limits.memory}" if limits.memory else ""
            return f"out of memory: the kernel killed it because{limit} nothing was left ({reason})"
        if exit_.signal == 9 and all_ > self._i.record.oom[1] and self._i.record.oom != (0, 0):
            return f"{reason}; the kernel killed a process of this node for lack of memory since it was started"
        return reason

    def over(self, exit_: Exit, reason: str) -> Run:
        """The run that has just ended, written down."""
        r = self._i.record
        self._i.tail = log_tail(self._i.folder.log(r.log))
        is_asked = r.state is State.STOPPING and not self._i.stopping.failing
        if self._i.stopping.failing:
            reason = f"{self._i.stopping.failing}; {reason}"
        run = Run(
            number=r.launches,
            started_at=r.started_at or self._i.around.wall(),
            ended_at=self._i.around.wall(),
            due=r.due,
            code=exit_.code,
            signal=exit_.signal,
            reason=reason,
            log=r.log or "app.log",
            log_tail=self._i.tail,
            is_oom=reason.startswith("out of memory"),
            is_asked=is_asked,
        )
        history.add(self._i.folder.root, run)
        return run

    def _watch(self, other: OtherRun) -> None:
        """A run that goes on beside the present one: only its end counts."""
        loop = self._i.around.loop
        self._i.around.driver.watch(other.handle, lambda exit_: loop.post(lambda: self._exited(other, exit_)))

    def _exited(self, other: OtherRun, exit_: Exit) -> None:
        if other not in self._i.record.others:
            return
        self._i.record.others.remove(other)
        run = Run(
            number=other.number,
            started_at=other.started_at,
            ended_at=self._i.around.wall(),
            due=other.due,
            code=exit_.code,
            signal=exit_.signal,
            reason=describe_exit(exit_),
            log=other.log or "app.log",
            log_tail=log_tail(self._i.folder.log(other.log)),
        )
        history.add(self._i.folder.root, run)
        self._i.save()
        self._i.report("", run)
