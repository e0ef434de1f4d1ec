"""One sample of each instance's process tree. Linux reads /proc itself, at a tenth of psutil's cost; others psutil."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from gdos.model.values import Identity


@dataclass(frozen=True, slots=True)
class Usage:
    """One process, totals since its start. `cpu_s` in seconds, sizes in bytes."""

    cpu_s: float
    rss: int
    read: int
    write: int
    threads: int


class ReadProcess(Protocol):
    def __call__(self, pid: int) -> Usage | None: ...


@dataclass(slots=True)
class _Last:
    at: float
    cpu: dict[int, float] = field(default_factory=dict)
    io: dict[int, tuple[int, int]] = field(default_factory=dict)


class TreeSampler:
    """Values in the order of model.metrics.INSTANCE. One thread."""

    def __init__(self, members: Callable[[Identity], list[int]], read: ReadProcess | None = None) -> None:
        self._members = members
        self._read = read or (read_linux if sys.platform == "linux" else read_psutil)
        self._last: dict[str, _Last] = {}

    def sample(self, roots: Mapping[str, Identity]) -> dict[str, list[float]]:
        """Each instance by id since the last call; an instance that has just ended is left out."""
        for gone in self._last.keys() - roots.keys():
            del self._last[gone]
        found = {}
        for id_, root in roots.items():
            values = self._one(id_, root)
            if values is not None:
                found[id_] = values
        return found

    def _one(self, id_: str, root: Identity) -> list[float] | None:
        pids = self._members(root)
        usages = {pid: usage for pid in pids if (usage := self._read(pid)) is not None}
        if root.pid not in usages:
            return None
        now = time.monotonic()
        last = self._last.get(id_)
        span = max(now - last.at, 0.001) if last else 1.0
        cpu = read = write = 0.0
        for pid, u in usages.items():
            if last is not None and pid in last.cpu:
                cpu += max(u.cpu_s - last.cpu[pid], 0.0)
                read += max(u.read - last.io[pid][0], 0)
                write += max(u.write - last.io[pid][1], 0)
        self._last[id_] = _Last(
            now, {p: u.cpu_s for p, u in usages.items()}, {p: (u.read, u.write) for p, u in usages.items()}
        )
        return [
            round(cpu / span, 4),
            sum(u.rss for u in usages.values()),
            round(read / span, 1),
            round(write / span, 1),
            sum(u.threads for u in usages.values()),
            _descriptors(root.pid),
            len(usages),
        ]


_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def read_linux(pid: int) -> Usage | None:
    """From /proc/PID/stat and io; None when the process is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            data = os.read(fd, 1024)
        finally:
            os.close(fd)
    except OSError:
        return None
    rest = data[data.rindex(b")") + 2 :].split()
    read, write = _linux_io(pid)
    return Usage((int(rest[11]) + int(rest[12])) / _TICK, int(rest[21]) * _PAGE, read, write, int(rest[17]))


def _linux_io(pid: int) -> tuple[int, int]:
    """Bytes that reached the disk layer; another user's process does not tell."""
    try:
        fd = os.open(f"/proc/{pid}/io", os.O_RDONLY)
        try:
            lines = os.read(fd, 512).split()
        finally:
            os.close(fd)
        return int(lines[9]), int(lines[11])
    except (OSError, IndexError):
        return 0, 0


def read_psutil(pid: int) -> Usage | None:
    """The portable way, and the reference in the tests."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory, threads = process.cpu_times(), process.memory_info(), process.num_threads()
            counters = getattr(process, "io_counters", None)  # macOS has none
            try:
                io = counters() if counters is not None else None
            except psutil.AccessDenied:
                io = None
            read, write = (int(io.read_bytes), int(io.write_bytes)) if io else (0, 0)
        return Usage(times.user + times.system, memory.rss, read, write, threads)
    except psutil.Error:
        return None


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
