"""Which process a description of a service means: by name and arguments, PID file, listening port or systemd unit.

More than one match is narrowed to the topmost of one tree (a server and its workers); what is left is said, never
guessed. Processes of GDOS's own instances are nobody's to adopt.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from gdos.model.errors import Conflict
from gdos.model.manifest import Manifest
from gdos.worker.platform.base import MARK

PID_FILE_SLACK_S = 5.0
SYSTEMCTL_S = 10.0


class Ambiguous(Conflict):
    """Several processes fit, and none of them is the parent of the others."""

    code = "ambiguous"


def find(manifest: Manifest, mark: str) -> psutil.Process | None:
    """The process that the description means, or None. Raises Ambiguous naming them all."""
    found = [p for p in matches(manifest) if _is_free(p, mark)]
    top = topmost(found)
    if len(top) > 1:
        names = ", ".join(f"{p.pid} ({_command(p)[:60]})" for p in top[:10])
        raise Ambiguous(f"{len(top)} processes fit and none is the parent of the others: {names}; describe it closer")
    return top[0] if top else None


def matches(manifest: Manifest) -> list[psutil.Process]:
    """Every process that fits, whosever it is."""
    return _FINDERS[manifest.pid_strategy](manifest)


def topmost(found: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that no other of them has started, directly or through others."""
    by_pid = {p.pid: p for p in found}
    top = []
    for process in by_pid.values():
        try:
            above = {p.pid for p in process.parents()}
        except psutil.Error:
            continue  # it has ended meanwhile
        if not above & by_pid.keys():
            top.append(process)
    return top


def mark_of(process: psutil.Process) -> str:
    """The instance folder of a process that GDOS started; '' for any other."""
    try:
        return str(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):
        return ""


def _is_free(process: psutil.Process, mark: str) -> bool:
    return process.pid != os.getpid() and mark_of(process) in ("", mark)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "?"


def _by_name(manifest: Manifest) -> list[psutil.Process]:
    pattern = re.compile(manifest.match_args) if manifest.match_args else None
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if not command or process.status() == psutil.STATUS_ZOMBIE:
                continue  # a kernel thread, or dead already
            if manifest.process_name and manifest.process_name not in _names(process, command):
                continue
            if pattern is None or pattern.search(" ".join(command)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _names(process: psutil.Process, command: list[str]) -> set[str]:
    names = {process.name(), os.path.basename(command[0])}
    try:
        names.add(os.path.basename(process.exe()))
    except psutil.Error:
        return names  # another user's: its own word has to do
    return names | {name.removesuffix(".exe") for name in names}


def _by_pid_file(manifest: Manifest) -> list[psutil.Process]:
    """A process that is younger than the file is a stranger that got the PID later."""
    path = Path(manifest.pid_file)
    try:
        pid, written = int(path.read_text().split()[0]), path.stat().st_mtime
        process = psutil.Process(pid)
        if process.create_time() > written + PID_FILE_SLACK_S:
            return []
        if manifest.process_name and manifest.process_name not in _names(process, process.cmdline() or [""]):
            return []
    except (OSError, ValueError, IndexError, psutil.Error):
        return []
    return [process]


def _by_port(manifest: Manifest) -> list[psutil.Process]:
    found = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.pid or not connection.laddr:
            continue
        if connection.laddr.port == manifest.port:
            found.add(connection.pid)
    return [p for pid in sorted(found) if (p := _process(pid)) is not None]


def _by_unit(manifest: Manifest) -> list[psutil.Process]:
    command = ["systemctl", "show", "--property=MainPID", "--value", "--", manifest.unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Conflict(f"unit {manifest.unit}: systemctl cannot be asked ({e})") from e
    if done.returncode != 0:
        raise Conflict(f"unit {manifest.unit}: {' '.join(done.stderr.split()) or 'systemctl failed'}")
    pid = int(done.stdout.strip() or 0)
    process = _process(pid) if pid else None
    return [process] if process is not None else []


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


_FINDERS: dict[str, Callable[[Manifest], list[psutil.Process]]] = {
    "match": _by_name,
    "pidfile": _by_pid_file,
    "port": _by_port,
    "systemd": _by_unit,
}
