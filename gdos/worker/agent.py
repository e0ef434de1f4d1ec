"""The worker's heart: wanted in, instances driven, reports and samples out. Everything here runs on the owner thread,
but for the methods that say otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from gdos.model.errors import BadInput, GdosError, NotFound
from gdos.model.placeholders import fill
from gdos.model.values import Identity
from gdos.model.wanted import Wanted, merge
from gdos.wire import messages as m
from gdos.worker import logs
from gdos.worker.candidates import candidates, matching
from gdos.worker.disk import Record, WorkDir
from gdos.worker.executor.around import Around
from gdos.worker.executor.instance import Instance
from gdos.worker.executor.launch import values_of
from gdos.worker.executor.recovery import recover
from gdos.worker.logkeeper import LogKeeper
from gdos.worker.loop import OwnerLoop
from gdos.worker.probes import look

log = logging.getLogger(__name__)
SAVE_AGAIN_S = 1.0


class Agent:
    """Holds all instances. `send(message)` passes a message to the link."""

    def __init__(self, loop: OwnerLoop, work: WorkDir, around: Around, send: Callable[[m.Message], None]) -> None:
        self.instances: dict[str, Instance] = {}
        self.revision = -1
        self.roots: dict[str, Identity] = {}  # replaced as a whole: the sampler's thread reads it
        self._loop = loop
        self._work = work
        self._around = around
        self._send = send
        self._wanted: dict[str, Wanted] = {}
        self._incoming: list[Wanted] = []
        self._requests = ThreadPoolExecutor(64, "requests")  # most of them wait for a log to grow
        self._is_supervising = False
        self._is_unsaved = False
        self._keeper = LogKeeper(around, lambda: self.instances.values())

    # --- life

    def load(self) -> None:
        """What the disk says; nothing is touched yet."""
        self.revision, self._wanted = self._work.read_wanted()
        for record in self._work.records():
            self._add(record)

    def supervise(self) -> None:
        """From now on: processes are found again, and what is wanted is done. Harmless when called twice."""
        if self._is_supervising:
            return
        self._is_supervising = True
        self._keeper.start()
        for id_, want in self._wanted.items():
            if id_ not in self.instances and want.present:
                self._add(_new_record(want))
        for instance in list(self.instances.values()):
            instance.want = self._wanted.get(instance.record.id)
            self._guard(instance, lambda instance=instance: recover(instance))  # type: ignore[misc]
        for id_, want in list(self._wanted.items()):
            if id_ in self.instances:
                self._wish(self.instances[id_], want)
        for id_ in self.instances.keys() - self._wanted.keys():
            log.warning("%s is on the disk and not wanted by anybody: left as it is", self.instances[id_].record.name)
        self.refresh_roots()

    def close(self) -> None:
        """Services run on."""
        self._requests.shutdown(wait=False, cancel_futures=True)

    # --- from the master

    def on_wanted(self, message: m.WantedList) -> None:
        """Keep it on the disk, acknowledge, act. Parts of a long list are put together first."""
        self._incoming.extend(message.items)
        if message.revision == 0 and message.items:
            return
        items, self._incoming = self._incoming, []
        self._wanted = merge(self._wanted, items, full=message.full)
        self.revision = message.revision
        self._save_wanted()
        self.supervise()
        for want in items:
            self._apply(want)

    def _save_wanted(self) -> None:
        """Acknowledged is what the disk has. A full one does not keep us from acting: the master says it all again."""
        try:
            self._work.write_wanted(self.revision, self._wanted)
        except OSError as e:
            if not self._is_unsaved:
                log.error("the wanted list cannot be written (%s): tried again", e.strerror or e)
                self._loop.call_later(SAVE_AGAIN_S, self._save_wanted_again)
            self._is_unsaved = True
        else:
            self._is_unsaved = False
            self._send(m.WantedAck(revision=self.revision))

    def _save_wanted_again(self) -> None:
        if self._is_unsaved:
            self._is_unsaved = False
            self._save_wanted()

    def _apply(self, want: Wanted) -> None:
        instance = self.instances.get(want.id)
        if instance is None:
            if not want.present:
                self._gone_already(want)
                return
            instance = self._add(_new_record(want))
        self._wish(instance, want)

    def _gone_already(self, want: Wanted) -> None:
        """Wanted absent, and nothing of it is here: say so, again if need be."""
        self._forget(want.id)
        self._around.report(
            m.Report(
                seq=0,
                at=self._around.wall(),
                instance=want.id,
                state="destroying",
                revision=want.revision,
                is_settled=True,
                is_gone=True,
            )
        )

    def on_request(self, request: m.Request) -> None:
        """Answered from a pool: a slow disk must not hold up the owner thread."""
        instance = self.instances.get(request.instance)
        names = {i.folder.mark: i.record.name for i in self.instances.values()}
        self._requests.submit(self._answer, request, instance, names)

    def _answer(self, request: m.Request, instance: Instance | None, names: Mapping[str, str]) -> None:
        """In the request pool."""
        try:
            data: Any
            if isinstance(request, m.Candidates):
                data = candidates(names)
            elif isinstance(request, m.Match):
                data = matching(request.external, names, instance.folder.mark if instance is not None else "")
            elif instance is None:
                raise NotFound("this node has no such instance (yet)")
            else:
                data = _ANSWERS[type(request)](request, instance, self._around)
            self._send(m.Answer(id=request.id, data=msgspec.to_builtins(data)))
        except GdosError as e:
            self._send(m.Answer(id=request.id, error=e.detail, code=e.code))
        except Exception as e:
            log.exception("a request failed")
            self._send(m.Answer(id=request.id, error=f"the worker failed: {type(e).__name__}: {e}", code="internal"))

    # --- instances

    def _add(self, record: Record) -> Instance:
        instance = Instance(self._around, record, self._work.folder(record), self._on_gone)
        self.instances[record.id] = instance
        return instance

    def _on_gone(self, instance: Instance) -> None:
        want = self._wanted.get(instance.record.id)
        self.instances.pop(instance.record.id, None)
        self.refresh_roots()
        if want is not None:
            self._gone_already(want)

    def _forget(self, id_: str) -> None:
        if self._wanted.pop(id_, None) is not None:
            self._save_wanted()

    def refresh_roots(self) -> None:
        """For the sampler: which processes there are."""
        self.roots = {i.record.id: i.record.handle.process for i in self.instances.values() if i.record.handle}

    def _wish(self, instance: Instance, want: Wanted) -> None:
        self._guard(instance, lambda: instance.wish(want))

    @staticmethod
    def _guard(instance: Instance, act: Callable[[], None]) -> None:
        """One instance's failure is its own."""
        try:
            act()
        except Exception:
            log.exception("%s: failed", instance.record.name)


def _new_record(want: Wanted) -> Record:
    return Record(id=want.id, name=want.name, system=want.system, module=want.module)


def run_in(pool: ThreadPoolExecutor, loop: OwnerLoop) -> Callable[[Callable[[], Any], Callable[..., None]], None]:
    """`run(work, done)`: `work` in the pool, `done(result, error)` on the owner thread."""

    def run(work: Callable[[], Any], done: Callable[..., None]) -> None:
        def job() -> None:
            try:
                result = work()
            except Exception as e:
                error = e
                if not isinstance(e, (GdosError, OSError)):
                    log.exception("a step failed")
                loop.post(lambda: done(None, error))
            else:
                loop.post(lambda: done(result, None))

        pool.submit(job)

    return run


# --- answers to requests, in the request pool


def _log_files(instance: Instance) -> Mapping[str, Path]:
    record, folder = instance.record, instance.folder
    current = folder.log(record.log)
    external = instance.want.external if instance.want is not None else None
    if external is not None:
        return logs.files(folder.root, current, Path(external.external_work_dir or "/"), external.log_paths)
    if not record.current:
        return logs.files(folder.root, current, None, {})
    return logs.files(folder.root, current, folder.release(record.current), _log_paths(instance))


def _log_paths(instance: Instance) -> Mapping[str, str]:
    """What the manifest names, placeholders filled in."""
    want, node = instance.want, instance.around.node()
    values = values_of(want, instance.folder, node)[0] if want is not None else {}
    return {name: fill(path, values, f"log_paths.{name}") for name, path in instance.manifest().log_paths.items()}


def _list_logs(request: Any, instance: Instance, around: Around) -> Any:
    return logs.listing(_log_files(instance))


def _read_log(request: m.LogRead, instance: Instance, around: Around) -> Any:
    external = instance.want.external if instance.want is not None else None
    declared = external.log_paths if external is not None else ()
    path = logs.resolve(_log_files(instance), request.name, instance.folder.root, declared)
    return logs.read(path, request.offset, request.limit, request.tail, min(request.wait_s, 30.0))


def _gate(request: m.Gate, instance: Instance, around: Around) -> Any:
    """None for yes, or why not yet."""
    launch = instance.launch
    if launch is None:
        return "is not started"
    kind = {"port": "tcp", "log": "log"}.get(request.kind)
    if kind is None:
        raise BadInput(f"a gate of kind {request.kind} is not for a node")
    target = request.target
    if kind == "tcp":
        named = launch.manifest.ports.get(target)
        target = f"127.0.0.1:{named}" if named is not None else target if ":" in target else f"127.0.0.1:{target}"
    return look(replace(launch.readiness, kind=kind, target=target, timeout_s=3.0))


def _processes(request: Any, instance: Instance, around: Around) -> Any:
    handle = instance.record.handle
    found = []
    for pid in around.driver.inspect(handle) if handle is not None else []:
        try:
            p = psutil.Process(pid)
            with p.oneshot():
                command = " ".join(p.cmdline()) or p.name()
                found.append(
                    m.ProcessInfo(pid, p.ppid(), command[:500], p.memory_info().rss, int(p.create_time() * 1000))
                )
        except psutil.Error:
            continue  # it has ended meanwhile
    return found


_ANSWERS: dict[type, Callable[[Any, Instance, Around], Any]] = {
    m.LogFiles: _list_logs,
    m.LogRead: _read_log,
    m.Processes: _processes,
    m.Gate: _gate,
}


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
