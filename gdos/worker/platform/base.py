"""The face that each platform's System shows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gdos.model.manifest import Limits
from gdos.model.values import Exit, Identity

MARK = "GDOS_INSTANCE_DIR"
"""The variable that marks every process of an instance; its value is the instance's folder."""
LAUNCH = "GDOS_LAUNCH"
"""Which start of the instance a process belongs to."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to start: all of it resolved. `output` is a file that stdout and stderr are appended to.

    `limits` hold for all that carries `mark`; None leaves them as they are.
    """

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    output: Path
    user: str = ""
    mark: str = ""
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A process as the system lists it. `started` as in Identity."""

    pid: int
    parent: int
    started: int
    group: int
    session: int


class Platform(Protocol):
    """All methods may be called from any thread."""

    def boot(self) -> str:
        """An id of this boot of the machine."""
        ...

    def spawn(self, command: Command) -> subprocess.Popen[bytes]:
        """Start in a session and group of its own. Raises OSError."""
        ...

    def identify(self, pid: int) -> Identity | None:
        """The process of that PID now; None when there is none, or only its zombie."""
        ...

    def is_alive(self, identity: Identity) -> bool:
        """Whether exactly that process still runs."""
        ...

    def mark_of(self, pid: int, name: str) -> str | None:
        """A variable of a process's environment; None when it is not set or cannot be read."""
        ...

    def watch(self, identity: Identity, on_exit: Callable[[], None]) -> None:
        """Call `on_exit` once, from some thread, as soon as the process ends; at once if it has ended."""
        ...

    def tree(self, root: Identity, mark: str) -> list[Identity]:
        """The process, its session and group, all descendants, and whatever carries `mark`."""
        ...

    def marked(self, mark: str) -> list[Identity]:
        """Whatever carries `mark`."""
        ...

    def left_over(self, mark: str, present: Identity, launch: str) -> list[Identity]:
        """Whatever carries `mark` and says itself that it is of another launch; never of the session of `present`.

        In the middle of an exec a process has no environment for a moment: that it says nothing proves nothing.
        """
        ...

    def members(self, root: Identity) -> list[int]:
        """The PIDs of the tree by parenthood, quickly: for sampling. The root comes first."""
        ...

    def signal_group(self, root: Identity, name: str) -> None:
        """Send a signal such as 'TERM' to the process group; nothing when it is gone."""
        ...

    def kill(self, identity: Identity) -> None:
        """End one process at once; nothing when it is gone."""
        ...

    def terminate(self, identity: Identity, name: str) -> None:
        """Send a signal such as 'TERM' to one process and nobody else; nothing when it is gone."""
        ...

    def descendants(self, root: Identity) -> list[Identity]:
        """The process and all that it has started by parenthood; empty when it is gone."""
        ...

    def limit_problems(self, limits: Limits) -> list[str]:
        """Which of these limits cannot be held on this node, in words."""
        ...

    def track(self, mark: str, pid: int) -> None:
        """From now on what this process starts counts as the instance's, whatever it does to its environment."""
        ...

    def oom_kills(self, mark: str) -> tuple[int, int]:
        """How often the kernel has killed for lack of memory: among the instance's processes, on the whole node."""
        ...

    def forget(self, mark: str) -> None:
        """Nothing of the instance is left: what was kept for `track` and limits goes."""
        ...

    def exit_of(self, code: int) -> Exit:
        """What a Popen return code means."""
        ...

    def close(self) -> None:
        """End the watching threads."""
        ...
