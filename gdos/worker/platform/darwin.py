"""macOS: sessions and groups as on Linux, trees by psutil, exits by looking."""

from __future__ import annotations

import sys

if sys.platform == "darwin":
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from gdos.model.manifest import Limits
    from gdos.model.values import Exit, Identity
    from gdos.worker.platform import posix, scan
    from gdos.worker.platform.base import Command

    class System:
        """See base.Platform."""

        def __init__(self, work_dir: Path) -> None:
            self._boot = scan.boot()
            self._poller = scan.Poller(self.is_alive)

        def boot(self) -> str:
            return self._boot

        def spawn(self, command: Command) -> subprocess.Popen[bytes]:
            return posix.spawn(command)

        def identify(self, pid: int) -> Identity | None:
            return scan.identify(pid, self._boot)

        def is_alive(self, identity: Identity) -> bool:
            return scan.identify(identity.pid, self._boot) == identity

        def mark_of(self, pid: int, name: str) -> str | None:
            return scan.mark_of(pid, name)

        def watch(self, identity: Identity, on_exit: Callable[[], None]) -> None:
            self._poller.add(identity, on_exit)

        def tree(self, root: Identity, mark: str) -> list[Identity]:
            return scan.tree(root, mark, self._boot)

        def marked(self, mark: str) -> list[Identity]:
            return scan.marked(mark, self._boot)

        def left_over(self, mark: str, present: Identity, launch: str) -> list[Identity]:
            return scan.left_over(mark, present, launch, self._boot)

        def members(self, root: Identity) -> list[int]:
            return scan.members(root)

        def signal_group(self, root: Identity, name: str) -> None:
            posix.signal_group(root, name, self.is_alive(root))

        def kill(self, identity: Identity) -> None:
            scan.kill(identity, self._boot)

        def terminate(self, identity: Identity, name: str) -> None:
            scan.send(identity, self._boot, posix.signal_of(name))

        def descendants(self, root: Identity) -> list[Identity]:
            return scan.descendants(root, self._boot)

        def limit_problems(self, limits: Limits) -> list[str]:
            return scan.limit_problems(limits, "macOS")

        def track(self, mark: str, pid: int) -> None:
            """There are no control groups; the environment's mark has to do."""

        def oom_kills(self, mark: str) -> tuple[int, int]:
            return 0, 0

        def forget(self, mark: str) -> None:
            """Nothing was kept."""

        def exit_of(self, code: int) -> Exit:
            return posix.exit_of(code)

        def close(self) -> None:
            self._poller.close()
