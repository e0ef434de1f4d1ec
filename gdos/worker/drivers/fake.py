"""A scripted driver: no process, but all that a service can do. For tests, and for load tests from the archive."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gdos.model.errors import GdosError
from gdos.model.values import Exit, Identity
from gdos.worker.drivers.base import Handle, Spec


@dataclass(slots=True)
class Script:
    """What the next started service does. `start_error`: it cannot be started. `ignores_stop`: only kill ends it."""

    start_error: str = ""
    ignores_stop: bool = False
    exit_on_stop: Exit = field(default_factory=lambda: Exit(signal=15))


@dataclass(slots=True)
class _Service:
    handle: Handle
    script: Script
    exit: Exit | None = None
    posts: list[Callable[[Exit], None]] = field(default_factory=list)


class FakeDriver:
    """See base.Driver. `scripts` by mark; without one a service runs until it is stopped."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.started: list[Spec] = []
        self._services: dict[int, _Service] = {}
        self._pids = itertools.count(1_000_000)
        self._lock = threading.Lock()

    def start(self, spec: Spec) -> Handle:
        script = self.scripts.get(spec.mark, Script())
        if script.start_error:
            raise GdosError(script.start_error)
        with self._lock:
            self.started.append(spec)
            handle = Handle(Identity(next(self._pids), 1, "fake"), spec.mark, spec.launch)
            self._services[handle.process.pid] = _Service(handle, script)
        return handle

    def end(self, handle: Handle, exit_: Exit) -> None:
        """Make the service end by itself."""
        with self._lock:
            service = self._services[handle.process.pid]
            if service.exit is not None:
                return
            service.exit = exit_
            posts = list(service.posts)
        for post in posts:
            post(exit_)

    def running(self, mark: str) -> list[Handle]:
        """The live services of an instance: more than one is a fault of the worker."""
        with self._lock:
            return [s.handle for s in self._services.values() if s.exit is None and s.handle.mark == mark]

    def recover(self, handle: Handle | None, mark: str) -> Handle | None:
        return next((h for h in self.running(mark) if handle is None or h == handle), None)

    def watch(self, handle: Handle, post: Callable[[Exit], None]) -> None:
        with self._lock:
            service = self._services[handle.process.pid]
            service.posts.append(post)
            ended = service.exit
        if ended is not None:
            post(ended)

    def ask_stop(self, handle: Handle, spec: Spec | None) -> None:
        script = self._services[handle.process.pid].script
        if not script.ignores_stop:
            self.end(handle, script.exit_on_stop)

    def kill(self, handle: Handle) -> list[int]:
        self.end(handle, Exit(signal=9))
        return []

    def sweep(self, handle: Handle) -> int:
        return 0

    def inspect(self, handle: Handle) -> list[int]:
        return [handle.process.pid]
