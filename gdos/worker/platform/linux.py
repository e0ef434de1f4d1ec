"""Linux: /proc for who is who, pidfd so that an exit is seen in a millisecond, and no stranger is ever signalled."""

from __future__ import annotations

import sys

if sys.platform == "linux":
    import contextlib
    import logging
    import os
    import resource
    import selectors
    import signal
    import subprocess
    import threading
    import time
    from collections.abc import Callable
    from dataclasses import dataclass
    from pathlib import Path

    from gdos.model.manifest import Limits
    from gdos.model.values import Exit, Identity
    from gdos.worker.platform import posix
    from gdos.worker.platform.base import LAUNCH, MARK, Command, Found
    from gdos.worker.platform.cgroups import Cgroups

    log = logging.getLogger(__name__)

    def read_stat(pid: int) -> Found | None:
        """One process from /proc/PID/stat; None when it is gone or a zombie."""
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                data = file.read(1024)
        except (FileNotFoundError, ProcessLookupError):
            return None
        rest = data[data.rindex(b")") + 2 :].split()
        if rest[0] in (b"Z", b"X"):
            return None
        return Found(pid, int(rest[1]), int(rest[19]), int(rest[2]), int(rest[3]))

    def read_environ(pid: int) -> bytes:
        """The environment as it was at the start of the program, with a zero byte at both ends; b'' if unreadable."""
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                parts = []
                while part := file.read(1 << 16):
                    parts.append(part)
            return b"\0" + b"".join(parts) + b"\0"
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return b""

    @dataclass(frozen=True, slots=True)
    class Look:
        """All processes of one moment. `marked`: mark -> the processes that carry it, each with its launch, if any."""

        table: list[Found]
        marked: dict[str, list[tuple[Found, str | None]]]

    def look() -> Look:
        """One pass over /proc, environments included."""
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        table = [found for found in map(read_stat, pids) if found is not None]
        marked: dict[str, list[tuple[Found, str | None]]] = {}
        for f in table:
            environ = read_environ(f.pid) if f.parent != 2 and f.pid > 2 else b""
            if _NEEDLE in environ:
                mark = _value(environ, MARK) or ""
                marked.setdefault(mark, []).append((f, _value(environ, LAUNCH)))
        return Look(table, marked)

    _NEEDLE = f"\0{MARK}=".encode()

    def _value(environ: bytes, name: str) -> str | None:
        _, found, rest = environ.partition(f"\0{name}=".encode())
        return rest.partition(b"\0")[0].decode(errors="surrogateescape") if found else None

    class Watcher:
        """One thread waits for all processes by their pidfds."""

        def __init__(self) -> None:
            self._selector = selectors.DefaultSelector()
            self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._selector.register(self._wake_read, selectors.EVENT_READ, None)
            self._is_closed = False
            self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
            self._thread.start()

        def add(self, pid: int, on_exit: Callable[[], None]) -> None:
            """Raises ProcessLookupError when there is no such process."""
            fd = os.pidfd_open(pid)
            self._selector.register(fd, selectors.EVENT_READ, on_exit)

        def close(self) -> None:
            self._is_closed = True
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"x")
            self._thread.join()

        def _run(self) -> None:
            while not self._is_closed:
                for key, _ in self._selector.select():
                    if key.data is None:
                        continue
                    self._selector.unregister(key.fd)
                    os.close(key.fd)
                    try:
                        key.data()
                    except Exception:
                        log.exception("telling of an exit failed")
            for key in list(self._selector.get_map().values()):
                os.close(key.fd)
            os.close(self._wake_write)
            self._selector.close()

    class System:
        """See base.Platform."""

        def __init__(self, work_dir: Path) -> None:
            self._groups = Cgroups(work_dir)
            with open("/proc/sys/kernel/random/boot_id") as file:
                self._boot = file.read().strip()
            self._watcher = Watcher()
            self._look = Look([], {})
            self._look_at = -1.0
            self._look_lock = threading.Lock()

        def boot(self) -> str:
            return self._boot

        def spawn(self, command: Command) -> subprocess.Popen[bytes]:
            if command.limits is None or not self._groups.is_needed(command.mark, command.limits):
                return posix.spawn(command)
            self._groups.limit(command.mark, command.limits)
            child = posix.spawn(command)
            try:
                self._groups.add(command.mark, child.pid)
                if command.limits.open_files is not None:
                    count = command.limits.open_files
                    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (count, count))
            except ProcessLookupError:
                return child  # it has ended already
            except OSError:
                child.kill()  # never without its limits
                child.wait()
                raise
            return child

        def identify(self, pid: int) -> Identity | None:
            found = read_stat(pid)
            return Identity(pid, found.started, self._boot) if found else None

        def is_alive(self, identity: Identity) -> bool:
            found = read_stat(identity.pid) if identity.boot == self._boot else None
            return found is not None and found.started == identity.started

        def mark_of(self, pid: int, name: str) -> str | None:
            return _value(read_environ(pid), name)

        def watch(self, identity: Identity, on_exit: Callable[[], None]) -> None:
            try:
                self._watcher.add(identity.pid, on_exit)
            except ProcessLookupError:
                on_exit()
                return
            if not self.is_alive(identity) and read_stat(identity.pid) is not None:
                on_exit()  # the PID is somebody else's now; the agent ignores a second call

        def _snapshot(self) -> Look:
            """All processes, listed after this call began; callers at the same time share one look."""
            asked = time.monotonic()
            with self._look_lock:
                if self._look_at <= asked:
                    self._look_at = time.monotonic()
                    self._look = look()
                return self._look

        def tree(self, root: Identity, mark: str) -> list[Identity]:
            now = self._snapshot()
            by_pid = {f.pid: f for f in now.table}
            leader = by_pid.get(root.pid)
            is_ours = root.boot == self._boot and (leader is None or leader.started == root.started)
            found: dict[int, Found] = {}
            if is_ours:
                ids = (root.pid,)
                members = [f for f in now.table if f.started >= root.started]
                found = {f.pid: f for f in members if f.pid in ids or f.group in ids or f.session in ids}
                grown = True
                while grown:
                    more = [f for f in members if f.parent in found and f.pid not in found]
                    found.update((f.pid, f) for f in more)
                    grown = bool(more)
            found.update((f.pid, f) for f, _ in now.marked.get(mark, ()))
            found.update((pid, by_pid[pid]) for pid in self._groups.members(mark) if pid in by_pid)
            found.pop(os.getpid(), None)
            return [Identity(f.pid, f.started, self._boot) for f in found.values()]

        def marked(self, mark: str) -> list[Identity]:
            return [Identity(f.pid, f.started, self._boot) for f, _ in self._snapshot().marked.get(mark, ())]

        def left_over(self, mark: str, present: Identity, launch: str) -> list[Identity]:
            return [
                Identity(f.pid, f.started, self._boot)
                for f, of in self._snapshot().marked.get(mark, ())
                if of not in (None, launch) and present.pid not in (f.pid, f.session, f.group)
            ]

        def members(self, root: Identity) -> list[int]:
            out = [root.pid]
            for pid in out:
                try:
                    tasks = os.listdir(f"/proc/{pid}/task") if pid != root.pid or _threads(pid) else [str(pid)]
                    for task in tasks:
                        with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                            out.extend(map(int, file.read(65536).split()))
                except (FileNotFoundError, ProcessLookupError):
                    continue
            return out

        def signal_group(self, root: Identity, name: str) -> None:
            posix.signal_group(root, name, self.is_alive(root))

        def kill(self, identity: Identity) -> None:
            self.terminate(identity, "KILL")

        def terminate(self, identity: Identity, name: str) -> None:
            """By pidfd: between the check and the signal the PID cannot become another's."""
            number = posix.signal_of(name)
            try:
                fd = os.pidfd_open(identity.pid)
            except ProcessLookupError:
                return
            try:
                if self.is_alive(identity):
                    signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return
            finally:
                os.close(fd)

        def descendants(self, root: Identity) -> list[Identity]:
            if not self.is_alive(root):
                return []
            found = map(self.identify, self.members(root))
            return [i for i in found if i is not None and i.started >= root.started]

        def limit_problems(self, limits: Limits) -> list[str]:
            found = self._groups.problems(limits)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if limits.open_files is not None and os.geteuid() != 0 and limits.open_files > hard != -1:
                found.append(f"limits.open_files: this worker may allow at most {hard} open files")
            return found

        def track(self, mark: str, pid: int) -> None:
            with contextlib.suppress(OSError):  # one way of three to find what escapes
                self._groups.add(mark, pid)

        def oom_kills(self, mark: str) -> tuple[int, int]:
            with open("/proc/vmstat") as file:
                total = next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
            return self._groups.oom_kills(mark), total

        def forget(self, mark: str) -> None:
            self._groups.remove(mark)

        def exit_of(self, code: int) -> Exit:
            return posix.exit_of(code)

        def close(self) -> None:
            self._watcher.close()
            self._groups.close()

    def _threads(pid: int) -> bool:
        """Whether the process may have children of other threads than its first."""
        return len(os.listdir(f"/proc/{pid}/task")) > 1
