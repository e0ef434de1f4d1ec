"""Processes that the worker starts itself, each in its own session, found again by PID and start time."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from gdos.model.errors import GdosError
from gdos.model.values import Exit, Identity
from gdos.worker.drivers.base import Handle, Spec
from gdos.worker.platform.base import LAUNCH, MARK, Command, Platform

log = logging.getLogger(__name__)
KILL_S = 5.0
_ROUND_S = 0.01


def run_stop(system: Platform, stop: Command, handle: Handle) -> None:
    """The stop program, until it ends; GDOS_PID is what it is to stop. Raises GdosError when it fails."""
    child = system.spawn(replace(stop, env={**stop.env, "GDOS_PID": str(handle.process.pid)}))
    code = child.wait()
    if code != 0:
        raise GdosError(f"the stop program ended with {code}")


def kill_all(system: Platform, found: list[Identity], deadline: float) -> None:
    """End these, and wait for it until `deadline` (monotonic seconds)."""
    for identity in found:
        system.kill(identity)
    while time.monotonic() < deadline and any(map(system.is_alive, found)):
        time.sleep(_ROUND_S)


class SpawnDriver:
    """See base.Driver."""

    def __init__(self, system: Platform) -> None:
        self._system = system
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, spec: Spec) -> Handle:
        child = self._system.spawn(spec.command)
        with self._lock:
            self._children[child.pid] = child
        identity = self._system.identify(child.pid)
        if identity is None:  # it has ended already: an identity that nothing else can have
            identity = Identity(child.pid, 0, self._system.boot())
        return Handle(identity, spec.mark, spec.launch)

    def recover(self, handle: Handle | None, mark: str) -> Handle | None:
        if handle is not None and self._system.is_alive(handle.process):
            owner = self._system.mark_of(handle.process.pid, MARK)
            return handle if owner in (None, mark) else None
        found = self._system.marked(mark)
        if not found:
            return None
        main = min(found, key=lambda i: (i.started, i.pid))
        if handle is not None and self._system.mark_of(main.pid, LAUNCH) == handle.launch:
            return None  # its main process has ended; these are what is left of it
        return Handle(main, mark, self._system.mark_of(main.pid, LAUNCH) or "")

    def watch(self, handle: Handle, post: Callable[[Exit], None]) -> None:
        pid = handle.process.pid
        once = threading.Lock()

        def ended() -> None:
            if not once.acquire(blocking=False):
                return
            with self._lock:
                child = self._children.pop(pid, None)
            post(self._system.exit_of(child.wait()) if child is not None else Exit())

        self._system.watch(handle.process, ended)

    def owns(self, pid: int) -> bool:
        """Whether it is a child of this worker process, whose exit can be collected."""
        with self._lock:
            return pid in self._children

    def poll(self, handle: Handle) -> Exit | None:
        """How one that nobody watches yet has ended; None while it runs."""
        with self._lock:
            child = self._children.get(handle.process.pid)
        code = child.poll() if child is not None else None
        return self._system.exit_of(code) if code is not None else None

    def ask_stop(self, handle: Handle, spec: Spec | None) -> None:
        if spec is None or spec.stop is None:
            self._system.signal_group(handle.process, spec.stop_signal if spec else "TERM")
            return
        run_stop(self._system, spec.stop, handle)

    def kill(self, handle: Handle) -> list[int]:
        deadline = time.monotonic() + KILL_S
        while True:
            found = self._system.tree(handle.process, handle.mark)
            if not found or time.monotonic() > deadline:
                return [identity.pid for identity in found]
            kill_all(self._system, found, deadline)

    def sweep(self, handle: Handle) -> int:
        found = self._system.left_over(handle.mark, handle.process, handle.launch)
        for identity in found:
            self._system.kill(identity)
        return len(found)

    def inspect(self, handle: Handle) -> list[int]:
        return self._system.members(handle.process)
