"""From a release and what is wanted to a command that can be started; everything that can be wrong is said before."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gdos.model.errors import BadInput, GdosError
from gdos.model.manifest import FILE, Manifest, read
from gdos.model.placeholders import fill
from gdos.model.wanted import Wanted
from gdos.pack.check import entrypoint_in
from gdos.worker.disk import InstanceFolder
from gdos.worker.drivers.base import Spec
from gdos.worker.executor.fetch import Refused
from gdos.worker.platform.base import LAUNCH, MARK, Command

OS = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform, sys.platform)
_PRIVATE = re.compile(r"^(OPS_|GDOS_|SHIV_|PYTHONPATH$|PYTHONDONTWRITEBYTECODE$|NOTIFY_SOCKET$|MALLOC_ARENA_MAX$)")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What placeholders may name of the node."""

    name: str
    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Probe:
    """A filled-in probe of a started instance."""

    kind: str
    target: str
    timeout_s: float
    env: Mapping[str, str]
    cwd: Path
    log: Path
    log_from: int  # only what is written after the start counts


@dataclass(frozen=True, slots=True)
class Launch:
    spec: Spec
    readiness: Probe
    manifest: Manifest


@lru_cache(maxsize=512)
def manifest_of(release: Path) -> Manifest:
    """The manifest of an unpacked release, which never changes: read once. Raises GdosError."""
    try:
        return read((release / FILE).read_bytes(), str(release / FILE)).manifest
    except OSError as e:
        raise GdosError(f"{release / FILE}: cannot be read ({e.strerror})") from e


def check_fit(manifest: Manifest, release: Path) -> None:
    """Whether this node can run it at all. Raises Refused: it is asked at deploy, not at start."""
    if manifest.os and manifest.os != OS:
        raise Refused(f"{manifest.name} {manifest.version} is for {manifest.os}, this node runs {OS}")
    missing = [
        word
        for word, is_used in (
            ("limits", manifest.limits != type(manifest.limits)() and not manifest.limits_optional),
            ("hooks", bool(manifest.hooks)),
            ("templates", bool(manifest.templates)),
            ("kind cron", manifest.kind == "cron"),
            ("liveness", manifest.liveness_type != "none"),
        )
        if is_used
    ]
    if missing:
        raise Refused(f"{manifest.name} {manifest.version} needs what this worker cannot do yet: {', '.join(missing)}")
    if manifest.user and (sys.platform == "win32" or os.geteuid() != 0):
        raise Refused(f"user {manifest.user}: this worker may not switch users; run it as root, or leave user out")
    for field in ("entrypoint", "stop_entrypoint"):
        name = getattr(manifest, field)
        if name:
            program(name, manifest, release, field)


def program(name: str, manifest: Manifest, release: Path, field: str) -> str:
    """The full path of an entrypoint: in the package, or a bare name on this node's PATH. Raises Refused."""
    as_entry = Manifest(name=manifest.name, version=manifest.version, os=manifest.os, entrypoint=name)
    inside = entrypoint_in(as_entry, lambda n: (release / n).is_file())
    if inside is not None:
        path = release / inside
        if sys.platform != "win32" and not os.access(path, os.X_OK):
            path.chmod(path.stat().st_mode | 0o111)
        return str(path)
    found = shutil.which(name) if "/" not in name else None
    if found is None:
        where = "not in the package" if "/" in name else "neither in the package nor on this node's PATH"
        raise Refused(f"{field}: {name} is {where}")
    return found


def prepare(want: Wanted, folder: InstanceFolder, node: NodeFacts, launch: int, *, is_running: bool = False) -> Launch:
    """Everything for one start. Raises GdosError (unknown placeholder, missing program, port taken).

    `is_running`: for what runs already; its ports are its own, and its whole log counts for a probe.
    """
    release = folder.release(want.release.sha256)
    manifest = manifest_of(release)
    builtin = {
        "GDOS_INSTANCE_ID": want.id,
        "GDOS_INSTANCE_NAME": want.name,
        "GDOS_SYSTEM": want.system,
        "GDOS_MODULE": want.module,
        "GDOS_NODE": node.name,
        "GDOS_NODE_IP": node.address,
        "GDOS_DATA_DIR": str(folder.data),
        "GDOS_LOG_DIR": str(folder.logs),
        "GDOS_VERSION": want.release.version,
    }
    values = {**builtin, **node.labels, **want.variables, **want.env}
    env = {k: v for k, v in os.environ.items() if not _PRIVATE.match(k)}
    env.update({k: fill(v, values, f"env.{k}") for k, v in manifest.env.items()})
    env.update(want.env)
    env.update(builtin)
    env[MARK], env[LAUNCH] = folder.mark, str(launch)
    args = [fill(text, values, f"args[{i}]") for i, text in enumerate(manifest.args)]
    argv = [program(manifest.entrypoint, manifest, release, "entrypoint"), *args]
    target = fill(manifest.readiness_target, values, "readiness_target")
    log_from = 0
    if not is_running:
        check_ports(manifest.ports)
        log_from = folder.app_log.stat().st_size if folder.app_log.is_file() else 0
    command = Command(argv, release, env, folder.app_log, manifest.user)
    spec = Spec(command, folder.mark, str(launch), manifest.stop_signal, stop_command(manifest, release, command))
    probe = Probe(manifest.readiness_type, target, manifest.readiness_timeout, env, release, folder.app_log, log_from)
    return Launch(spec, probe, manifest)


def stop_command(manifest: Manifest, release: Path, command: Command) -> Command | None:
    """The stop program with the instance's environment; its output goes to the instance's log."""
    if not manifest.stop_entrypoint:
        return None
    argv = [program(manifest.stop_entrypoint, manifest, release, "stop_entrypoint"), *manifest.stop_args]
    return Command(argv, release, command.env, command.output, command.user)


def check_ports(ports: Mapping[str, int]) -> None:
    """Raises BadInput naming the port that another program of this node has."""
    for name, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as e:
                raise BadInput(f"port {port} ({name}) is taken{_taker(port)} ({e.strerror})") from e


def _taker(port: int) -> str:
    """By whom, where the system tells us."""
    import psutil

    try:
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return " by another user's program"
                return f" by {psutil.Process(connection.pid).name()} (PID {connection.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""


def split_command(text: str) -> list[str]:
    """A command line as words; no shell is involved."""
    return shlex.split(text, posix=sys.platform != "win32")


def link_data(manifest: Manifest, folder: InstanceFolder, release: Path) -> None:
    """Paths in `data_dirs` become links into the data folder, which upgrades and rollbacks leave alone."""
    for name in manifest.data_dirs:
        kept = folder.data / name
        inside = release / name
        if inside.is_symlink():
            continue
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            if inside.is_dir():
                shutil.copytree(inside, kept)
            else:
                kept.mkdir()
        if inside.is_dir():
            shutil.rmtree(inside)
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.symlink_to(kept, target_is_directory=True)
