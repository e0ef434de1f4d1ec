"""The one face of all drivers: start, recover, watch, ask_stop, kill, inspect. No timers, no policy, no state words.

What `start` returns is written to disk before it counts; `recover` takes it back after any death of the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gdos.model.values import Exit, Identity
from gdos.worker.platform.base import Command


class Handle(msgspec.Struct, frozen=True):
    """A started service: JSON on disk. `mark` is the instance's folder, `launch` which start it was.

    `exe` is the program of one that was adopted: when it is another, it is a stranger.
    """

    process: Identity
    mark: str
    launch: str
    exe: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start, and how to stop it. `stop` is a program, or None for the signal."""

    command: Command
    mark: str
    launch: str
    stop_signal: str = "TERM"
    stop: Command | None = None


class Driver(Protocol):
    def start(self, spec: Spec) -> Handle:
        """Start it. Raises OSError, or GdosError with a sentence."""
        ...

    def recover(self, handle: Handle | None, mark: str) -> Handle | None:
        """The service that was started before: by its handle, or by its mark when no handle was written in time."""
        ...

    def watch(self, handle: Handle, post: Callable[[Exit], None]) -> None:
        """Call `post` exactly once, from any thread, when the main process has ended."""
        ...

    def ask_stop(self, handle: Handle, spec: Spec | None) -> None:
        """Ask it to end: stop program or signal. May take as long as the stop program; raises OSError, GdosError."""
        ...

    def kill(self, handle: Handle) -> list[int]:
        """End the whole tree and what escaped from it; returns the PIDs that are still there after a bounded wait."""
        ...

    def sweep(self, handle: Handle) -> int:
        """End what earlier launches left behind; returns how many there were."""
        ...

    def inspect(self, handle: Handle) -> list[int]:
        """PIDs of the tree, the main process first."""
        ...
