"""Control groups of Linux: limits for a whole tree, who belongs to it, and whether the kernel killed for memory.

Version 2 where its controllers can be used here, version 1 (CentOS 7 and its like) otherwise. Groups are made in a
folder of this worker's own; where none may be made there are no limits by group, and that is said at deploy.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from gdos.model.manifest import Limits
from gdos.model.values import parse_size

log = logging.getLogger(__name__)
CONTROLLERS = ("memory", "cpu", "pids")
PERIOD_US = 100_000


class Cgroups:
    """`work_dir` names the worker: each has groups of its own. All methods may be called from any thread."""

    def __init__(self, work_dir: Path, root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> None:
        self._name = "gdos-" + hashlib.sha256(str(work_dir).encode()).hexdigest()[:12]
        self._plain: set[str] = set()  # marks whose groups are known to have no limits
        self._homes: dict[str, Path] = {}  # controller, or "" for the mere membership -> folder of this worker's groups
        v2 = root if (root / "cgroup.controllers").exists() else root / "unified"
        if (v2 / "cgroup.controllers").exists():
            self._find_v2(v2, own if own is not None else _own_group())
        for controller in CONTROLLERS:
            if controller not in self._homes and (root / controller).is_dir() and root != v2:
                self._use(controller, root / controller / self._name)
        if "" not in self._homes and "pids" in self._homes:
            self._homes[""] = self._homes["pids"]
        self._tidy()

    def _find_v2(self, v2: Path, own: str) -> None:
        """At the top for root; else in our own group, if it was delegated to us."""
        for home in (v2 / self._name, v2 / own.strip("/") / self._name):
            if not self._use("", home):
                continue
            for folder in (home.parent, home):
                for controller in CONTROLLERS:
                    with contextlib.suppress(OSError):  # not to be had here: asked below
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}")
            with contextlib.suppress(OSError):
                for controller in (home / "cgroup.subtree_control").read_text().split():
                    if controller in CONTROLLERS:
                        self._homes[controller] = home
            return

    def _use(self, controller: str, home: Path) -> bool:
        try:
            home.mkdir(exist_ok=True)
            if not os.access(home / "cgroup.procs", os.W_OK):
                return False
        except OSError:
            return False
        self._homes[controller] = home
        return True

    def problems(self, limits: Limits) -> list[str]:
        """Which limits cannot be held here, in words."""
        wanted = {"memory": limits.memory, "cpu": limits.cpu, "pids": limits.processes}
        missing = [name for name, value in wanted.items() if value is not None and name not in self._homes]
        if not missing:
            return []
        names = ["processes" if name == "pids" else name for name in missing]
        return [f"limits.{name}: this worker may not use the {name} control group of its node" for name in names]

    def is_needed(self, mark: str, limits: Limits) -> bool:
        """Whether `limit` has something to do; for most starts it has not."""
        return limits != Limits() or mark not in self._plain

    def limit(self, mark: str, limits: Limits) -> None:
        """Make the groups of an instance and set its limits; what an earlier release had is lifted. Raises OSError."""
        (self._plain.add if limits == Limits() else self._plain.discard)(mark)
        given = _settings(limits)
        for controller in CONTROLLERS:
            home, value = self._homes.get(controller), given.get(controller)
            if home is None or (value is None and not (home / _group(mark)).exists()):
                continue
            group = home / _group(mark)
            group.mkdir(exist_ok=True)
            version = 2 if (group / "cgroup.events").exists() else 1
            for name, text in _files(controller, value, version):
                if (group / name).exists():
                    (group / name).write_text(text)

    def add(self, mark: str, pid: int) -> None:
        """Put a process, and what it starts from now on, into the groups of its instance. Raises OSError."""
        for home in dict.fromkeys(self._homes.values()):
            group = home / _group(mark)
            if home == self._homes.get("") or group.exists():
                group.mkdir(exist_ok=True)
                try:
                    (group / "cgroup.procs").write_text(str(pid))
                except ProcessLookupError:
                    return

    def members(self, mark: str) -> list[int]:
        """PIDs in the groups of an instance."""
        found: dict[int, None] = {}
        for home in dict.fromkeys(self._homes.values()):
            with contextlib.suppress(OSError):
                text = (home / _group(mark) / "cgroup.procs").read_text()
                found.update(dict.fromkeys(map(int, text.split())))
        return list(found)

    def oom_kills(self, mark: str) -> int:
        """How often the kernel has killed a process of this group for lack of memory."""
        home = self._homes.get("memory")
        for name in ("memory.events", "memory.oom_control") if home is not None else ():
            with contextlib.suppress(OSError):
                assert home is not None
                for line in (home / _group(mark) / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def remove(self, mark: str) -> None:
        """The groups of an instance that is gone; one that still holds a process stays."""
        for home in dict.fromkeys(self._homes.values()):
            with contextlib.suppress(OSError):
                (home / _group(mark)).rmdir()

    def _tidy(self) -> None:
        """Groups in which nothing runs go; one is made again at the next start of its instance."""
        for home in dict.fromkeys(self._homes.values()):
            for group in [p for p in home.iterdir() if p.is_dir()]:
                with contextlib.suppress(OSError):  # something runs in it
                    group.rmdir()

    def close(self) -> None:
        """The folder of this worker's groups goes when there are none: its instances outlive it."""
        self._tidy()
        for home in dict.fromkeys(self._homes.values()):
            with contextlib.suppress(OSError):
                home.rmdir()


def _own_group() -> str:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def _group(mark: str) -> str:
    return f"{Path(mark).name}-{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


def _settings(limits: Limits) -> dict[str, str]:
    """Controller -> its limit as version 2 writes it."""
    found = {}
    if limits.memory is not None:
        found["memory"] = str(parse_size(limits.memory))
    if limits.cpu is not None:
        found["cpu"] = str(max(1000, int(limits.cpu * PERIOD_US)))
    if limits.processes is not None:
        found["pids"] = str(limits.processes)
    return found


def _files(controller: str, value: str | None, version: int) -> list[tuple[str, str]]:
    text = value or ("max" if version == 2 or controller == "pids" else "-1")
    if controller == "memory":
        if version == 2:
            return [("memory.max", text), ("memory.swap.max", "0" if value else "max")]
        return [("memory.limit_in_bytes", text)]
    if controller == "cpu":
        if version == 2:
            return [("cpu.max", f"{text} {PERIOD_US}")]
        return [("cpu.cfs_period_us", str(PERIOD_US)), ("cpu.cfs_quota_us", text)]
    return [("pids.max", text)]
