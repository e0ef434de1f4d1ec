"""Services that somebody else started, or that a start command of their own starts: found, watched, stopped with care.

Who a process is: PID, start, boot and program. Only the process and what it has started are ever signalled, each by
its identity; its session and group may hold strangers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from gdos.model.errors import GdosError
from gdos.model.manifest import Manifest
from gdos.model.values import Exit
from gdos.worker.drivers import find
from gdos.worker.drivers.base import Handle, Spec
from gdos.worker.drivers.spawn import KILL_S, SpawnDriver, kill_all, run_stop
from gdos.worker.platform.base import Platform

FOUND_S = 0.1


class AdoptDriver:
    """See base.Driver. `starter` runs the start command and knows our own children."""

    def __init__(self, system: Platform, starter: SpawnDriver, manifest: Manifest) -> None:
        self._system = system
        self._starter = starter
        self._manifest = manifest

    def start(self, spec: Spec) -> Handle:
        """What runs already is taken; otherwise the start command is run until the service can be found."""
        found = self._find(spec.mark, spec.launch)
        if found is not None:
            return found
        begun = self._starter.start(spec)
        try:
            found = self._await(begun, spec)
        except GdosError:
            self._starter.kill(begun)
            raise
        finally:
            if found is None or found.process != begun.process:
                self._starter.watch(begun, lambda _: None)  # collected when it ends
        return found

    def _await(self, begun: Handle, spec: Spec) -> Handle:
        deadline = time.monotonic() + self._manifest.readiness_timeout
        while time.monotonic() < deadline:
            found = self._find(spec.mark, spec.launch)
            if found is not None:
                return found
            ended = self._starter.poll(begun)
            if ended is not None and not ended.is_clean():
                how = f"code {ended.code}" if ended.code is not None else f"signal {ended.signal}"
                raise GdosError(f"the start command ended with {how}")
            time.sleep(FOUND_S)
        raise GdosError(f"started, but nothing that fits was found within {self._manifest.readiness_timeout} s")

    def _find(self, mark: str, launch: str) -> Handle | None:
        process = find.find(self._manifest, mark)
        identity = self._system.identify(process.pid) if process is not None else None
        if process is None or identity is None:
            return None
        return Handle(identity, mark, launch, program_of(process.pid))

    def recover(self, handle: Handle | None, mark: str) -> Handle | None:
        if handle is not None and self._is_ours(handle):
            return handle
        return self._find(mark, handle.launch if handle is not None else "")

    def _is_ours(self, handle: Handle) -> bool:
        if not self._system.is_alive(handle.process):
            return False
        now = program_of(handle.process.pid)
        return not handle.exe or not now or now == handle.exe

    def watch(self, handle: Handle, post: Callable[[Exit], None]) -> None:
        if self._starter.owns(handle.process.pid):
            self._starter.watch(handle, post)
        else:
            self._system.watch(handle.process, lambda: post(Exit()))

    def ask_stop(self, handle: Handle, spec: Spec | None) -> None:
        if not self._is_ours(handle):
            return
        if spec is not None and spec.stop is not None:
            run_stop(self._system, spec.stop, handle)
        else:
            self._system.terminate(handle.process, spec.stop_signal if spec is not None else "TERM")

    def kill(self, handle: Handle) -> list[int]:
        deadline = time.monotonic() + KILL_S
        while True:
            found = self._system.descendants(handle.process) if self._is_ours(handle) else []
            if not found or time.monotonic() > deadline:
                return [identity.pid for identity in found]
            kill_all(self._system, found, deadline)

    def sweep(self, handle: Handle) -> int:
        return 0

    def inspect(self, handle: Handle) -> list[int]:
        return self._system.members(handle.process)


def program_of(pid: int) -> str:
    """The file that a process runs; '' where it cannot be told."""
    try:
        return psutil.Process(pid).exe().removesuffix(" (deleted)")
    except (psutil.Error, OSError):
        return ""
