"""The manifest's hooks: each a command with the instance's environment and a time limit, its output in hooks.log."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gdos.model.errors import GdosError
from gdos.worker.drivers.base import Handle
from gdos.worker.drivers.spawn import SpawnDriver
from gdos.worker.platform.base import LAUNCH, MARK, Command, Platform

LOG = "hooks.log"
LOG_MAX = 1 << 20


class HookFailed(GdosError):
    """A hook ended with another code than 0, or not in time."""

    code, title, status = "hook_failed", "A hook failed", 409


@dataclass(frozen=True, slots=True)
class Hook:
    """`command.output` is the instance's hooks.log."""

    name: str
    command: Command
    timeout_s: float


def mark_of(mark: str) -> str:
    """Of an instance's hooks: they are no part of the service, no sweep of it may end them."""
    return mark + "#hook"


def make(name: str, argv: list[str], command: Command, timeout_s: float, more: Mapping[str, str]) -> Hook:
    """A hook that runs as its service does: same folder, user and environment, `more` added."""
    env = {**command.env, "GDOS_HOOK": name, **more}
    env[MARK] = mark_of(env[MARK])
    output = command.output.with_name(LOG)
    return Hook(name, replace(command, argv=argv, env=env, output=output, limits=None), timeout_s)


def run(hook: Hook, system: Platform) -> None:
    """In the pool. Raises HookFailed with the end of what it wrote; its whole tree is gone then."""
    log = hook.command.output
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file() and log.stat().st_size > LOG_MAX:
        log.replace(log.with_name(LOG + ".1"))
    with open(log, "a", encoding="utf-8") as out:
        out.write(f"--- {hook.name} {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    before = log.stat().st_size
    driver = SpawnDriver(system)
    try:
        child = system.spawn(hook.command)
    except OSError as e:
        raise HookFailed(f"{hook.name}: {hook.command.argv[0]}: {e.strerror or e}") from e
    try:
        code = child.wait(hook.timeout_s)
    except subprocess.TimeoutExpired as e:
        identity = system.identify(child.pid)
        if identity is not None:
            driver.kill(Handle(identity, hook.command.env[MARK], hook.command.env[LAUNCH]))
        child.wait()
        raise HookFailed(
            f"{hook.name}: did not end within {hook.timeout_s:g} s and was killed{_end(log, before)}"
        ) from e
    if code != 0:
        raise HookFailed(f"{hook.name}: ended with {code}{_end(log, before)}")


def _end(log: Path, before: int) -> str:
    with open(log, "rb") as file:
        file.seek(before)
        lines = file.read(LOG_MAX).decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""
