"""From a release and what is wanted to a command that can be started; everything that can be wrong is said before."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from gdos.model.errors import BadInput, GdosError
from gdos.model.manifest import FILE, Manifest, read
from gdos.model.placeholders import fill
from gdos.model.wanted import Wanted
from gdos.pack.check import entrypoint_in
from gdos.worker import livelog
from gdos.worker.disk import InstanceFolder
from gdos.worker.drivers.base import Spec
from gdos.worker.executor import hooks, templates
from gdos.worker.executor.fetch import Refused
from gdos.worker.platform import users
from gdos.worker.platform.base import LAUNCH, MARK, Command, Platform

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
    log_from: int  # only what is written after the start counts; see livelog for what it counts from
    user: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything for one start, all placeholders filled in."""

    spec: Spec
    readiness: Probe
    liveness: Probe
    manifest: Manifest
    hooks: Mapping[str, hooks.Hook]


@lru_cache(maxsize=512)
def manifest_of(release: Path) -> Manifest:
    """The manifest of an unpacked release, which never changes: read once. Raises GdosError."""
    try:
        return read((release / FILE).read_bytes(), str(release / FILE)).manifest
    except OSError as e:
        raise GdosError(f"{release / FILE}: cannot be read ({e.strerror})") from e


def check_fit(manifest: Manifest, release: Path, system: Platform) -> None:
    """Whether this node can run it at all. Raises Refused: it is asked at deploy, not at start."""
    if manifest.os and manifest.os != OS:
        raise Refused(f"{manifest.name} {manifest.version} is for {manifest.os}, this node runs {OS}")
    problems = [] if manifest.limits_optional else system.limit_problems(manifest.limits)
    if problems:
        raise Refused(f"{'; '.join(problems)}; with limits_optional it would run without")
    wrong = users.problem(manifest.user)
    if wrong:
        raise Refused(wrong)
    for field in ("entrypoint", "stop_entrypoint"):
        name = getattr(manifest, field)
        if name:
            program(name, manifest, release, field)


def program(name: str, manifest: Manifest, release: Path, field: str) -> str:
    """The full path of an entrypoint: in the package, or a bare name on this node's PATH. Raises Refused."""
    if manifest.is_external:
        return _external_program(name, release, field)
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


def _external_program(name: str, folder: Path, field: str) -> str:
    """Of an adopted service: an absolute path, a path below its own folder, or a name on the PATH."""
    path = folder / name
    if "/" in name and path.is_file():
        return str(path)
    found = shutil.which(name) if "/" not in name else None
    if found is None and path.is_file():
        return str(path)
    if found is None:
        raise Refused(f"{field}: there is no {name} in {folder}, and none on this node's PATH")
    return found


@dataclass(frozen=True, slots=True)
class Start:
    """Which start this is. `log`: where its output goes. `is_running`: it was started before, by an earlier worker.

    What runs already has its own ports, and its whole log counts for a probe; its templates are not written again.
    """

    number: int
    log: Path
    is_running: bool = False


def values_of(want: Wanted, folder: InstanceFolder, node: NodeFacts) -> tuple[dict[str, str], dict[str, str]]:
    """(what placeholders may name, the built-ins of it)"""
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
    return {**builtin, **node.labels, **want.env, **builtin}, builtin


def prepare(want: Wanted, folder: InstanceFolder, node: NodeFacts, start: Start) -> Launch:
    """Everything for one start. Raises GdosError (unknown placeholder, missing program, port taken)."""
    manifest = manifest_for(want, folder)
    home = Path(manifest.external_work_dir or folder.root) if want.external else folder.release(want.release.sha256)
    values, builtin = values_of(want, folder, node)
    env = {k: v for k, v in os.environ.items() if not _PRIVATE.match(k)}
    env.update(users.environment(manifest.user))
    env.update({k: fill(v, values, f"env.{k}") for k, v in manifest.env.items()})
    env.update(want.env)
    env.update(builtin)
    env[MARK], env[LAUNCH] = folder.mark, str(start.number)
    args = [fill(text, values, f"args[{i}]") for i, text in enumerate(manifest.args)]
    argv = [program(manifest.entrypoint, manifest, home, "entrypoint"), *args] if manifest.entrypoint else []
    targets = {f: fill(getattr(manifest, f), values, f) for f in ("readiness_target", "liveness_target")}
    if not start.is_running:
        check_ports(manifest.ports)
        templates.render(manifest, home, values)
        if manifest.user and want.external is None:
            users.own(folder.data, manifest.user)
    log_from = log_end(start.log) if not start.is_running else 0
    command = Command(
        argv, home, env, start.log, manifest.user, folder.mark, None if want.external else manifest.limits
    )
    spec = Spec(command, folder.mark, str(start.number), manifest.stop_signal, stop_command(manifest, home, command))
    probe = Probe("none", "", manifest.readiness_timeout, env, home, start.log, log_from, manifest.user)
    return Launch(
        spec,
        replace(probe, kind=manifest.readiness_type, target=targets["readiness_target"]),
        replace(probe, kind=manifest.liveness_type, target=targets["liveness_target"]),
        manifest,
        hooks_of(manifest, command, values),
    )


def manifest_for(want: Wanted, folder: InstanceFolder) -> Manifest:
    """Of the release that is wanted, or of what was adopted. Raises GdosError."""
    return want.external or manifest_of(folder.release(want.release.sha256))


def hooks_of(manifest: Manifest, command: Command, values: Mapping[str, str]) -> dict[str, hooks.Hook]:
    """All hooks of a manifest, ready to be run. Raises GdosError."""
    found = {}
    for name, words in manifest.hooks.items():
        filled = [fill(text, values, f"hooks.{name}[{i}]") for i, text in enumerate(words)]
        argv = [program(filled[0], manifest, command.cwd, f"hooks.{name}"), *filled[1:]]
        found[name] = hooks.make(name, argv, command, manifest.hook_timeout, {"GDOS_VERSION": manifest.version})
    return found


def log_end(path: Path) -> int:
    """The offset at which the next byte of a log will stand."""
    try:
        with open(path, "rb") as file, livelog.held(path):
            now = livelog.span(file.fileno(), path)
            return now.shift + now.size
    except FileNotFoundError:
        return 0


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
