"""What runs on this node and could be adopted: one look, for a person who chooses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from gdos.model.manifest import Manifest
from gdos.wire.messages import Candidate
from gdos.worker.drivers import find

_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")


def candidates(names: Mapping[str, str]) -> list[Candidate]:
    """Every process that is not one of the kernel's or this worker. `names`: instance folder -> its name."""
    ports = _ports()
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = [_candidate(p, ports, names) for p in psutil.process_iter() if p.pid not in own]
    return sorted((c for c in found if c is not None), key=lambda c: (not c.ports, c.name, c.pid))


def matching(manifest: Manifest, names: Mapping[str, str], mark: str = "") -> list[Candidate]:
    """What a description finds: none, the one that would be adopted, or all among which it cannot decide."""
    ports = _ports()
    top = find.topmost(p for p in find.matches(manifest) if p.pid != os.getpid() and find.mark_of(p) in ("", mark))
    found = [_candidate(p, ports, names) for p in top]
    return [c for c in found if c is not None]


def _candidate(process: psutil.Process, ports: Mapping[int, list[int]], names: Mapping[str, str]) -> Candidate | None:
    try:
        with process.oneshot():
            command = process.cmdline()
            if not command or process.status() == psutil.STATUS_ZOMBIE:
                return None
            return Candidate(
                pid=process.pid,
                name=process.name(),
                user=_or_nothing(process.username),
                command=" ".join(command)[:1000],
                exe=_or_nothing(process.exe),
                cwd=_or_nothing(process.cwd),
                ports=ports.get(process.pid, []),
                unit=_unit(process.pid),
                started_at=int(process.create_time() * 1000),
                instance=names.get(find.mark_of(process), ""),
            )
    except psutil.Error:
        return None


def _or_nothing(ask: Callable[[], str]) -> str:
    """What another user's process does not tell is left out."""
    try:
        return ask()
    except (psutil.Error, OSError, KeyError):
        return ""


def _ports() -> dict[int, list[int]]:
    found: dict[int, set[int]] = {}
    try:
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
                found.setdefault(connection.pid, set()).add(connection.laddr.port)
    except (psutil.Error, OSError):
        return {}
    return {pid: sorted(numbers) for pid, numbers in found.items()}


def _unit(pid: int) -> str:
    try:
        match = _UNIT.search(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return ""
    return match[1] if match else ""
