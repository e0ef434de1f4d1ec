"""Services of other supervisors as modules to adopt: supervisor's ini, PM2's dump, a systemd unit.

Each is either adopted where it is (found, watched, started and stopped through its own supervisor) or, to take it over,
described so that GDOS starts it itself. What could not be carried over is said, service by service.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gdos.model.errors import BadInput
from gdos.model.values import parse_duration, parse_size


@dataclass(slots=True)
class Imported:
    """`modules`: name -> the `external` part of a module of a system file; `warnings` are sentences."""

    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read(name: str, text: str, *, take_over: bool) -> Imported:
    """By what the text looks like. Raises BadInput when it is none of the three, or broken."""
    if text.lstrip().startswith(("[{", "[]")):
        return pm2(name, text, take_over=take_over)
    if re.search(r"^\s*\[(Service|Unit)\]", text, re.MULTILINE):
        return systemd(name, text, take_over=take_over)
    if re.search(r"^\s*\[program:", text, re.MULTILINE):
        return supervisor(name, text, take_over=take_over)
    raise BadInput(f"{name}: expected supervisor's ini ([program:x]), PM2's dump (a JSON list) or a systemd unit")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-")[:60] or "service"


def _tidy(external: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in external.items() if v not in (None, "", [], {})}


def _words(name: str, text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise BadInput(f"{name}: the command {text!r} cannot be read: {e}") from e
    if not words:
        raise BadInput(f"{name}: has no command")
    return words


# --- supervisor

_SUPERVISOR_DONE = {
    "command", "directory", "user", "environment", "autostart", "autorestart", "startsecs", "startretries",
    "stopsignal", "stopwaitsecs", "stdout_logfile", "stderr_logfile", "redirect_stderr", "process_name",
}  # fmt: skip
_AGAIN = {"true": "always", "unexpected": "on-failure", "false": "never"}


def supervisor(name: str, text: str, *, take_over: bool) -> Imported:
    """Every [program:x] of supervisor's configuration."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;", "\t;"), strict=False)
    try:
        parser.read_string(text, name)
    except configparser.Error as e:
        raise BadInput(f"{name}: {' '.join(str(e).split())}") from e
    found = Imported()
    for section in parser.sections():
        kind, _, program = section.partition(":")
        if kind == "program":
            found.modules[_plain(program)] = _program(program, dict(parser[section]), found, take_over=take_over)
    return found


def _program(program: str, raw: dict[str, str], found: Imported, *, take_over: bool) -> dict[str, Any]:
    def get(key: str, default: str = "") -> str:
        value = raw.get(key, default)
        return value.replace("%(program_name)s", program).replace("%(process_num)d", "0").replace("%%", "%")

    words = _words(program, get("command"))
    logs = {"stdout": get("stdout_logfile"), "stderr": get("stderr_logfile")}
    external: dict[str, Any] = {"log_paths": {k: v for k, v in logs.items() if v.startswith("/")}}
    left = sorted(raw.keys() - _SUPERVISOR_DONE - ({"numprocs"} if get("numprocs", "1") == "1" else set()))
    if left:
        found.warnings.append(f"{program}: not carried over: {', '.join(left)}")
    if not take_over:
        pattern = {"pid_strategy": "match", "match_args": re.escape(" ".join(words))}
        control = {"entrypoint": "supervisorctl", "args": ["start", program], "stop_entrypoint": "supervisorctl"}
        return _tidy({**external, **pattern, **control, "stop_args": ["stop", program], "restart": "never"})
    external |= {
        "pid_strategy": "spawn",
        "external_work_dir": get("directory") or "/",
        "entrypoint": words[0],
        "args": [w.replace("$", "$$") for w in words[1:]],
        "env": _supervisor_env(program, get("environment")),
        "user": get("user"),
        "restart": _AGAIN.get(get("autorestart", "unexpected").lower(), "on-failure"),
        "restart_max_retries": int(get("startretries", "3")),
        "stop_signal": get("stopsignal", "TERM"),
        "stop_timeout": max(1, int(get("stopwaitsecs", "10"))),
    }
    if int(get("startsecs", "1")) > 0:
        external |= {"readiness_type": "time", "readiness_target": get("startsecs", "1")}
    return _tidy(external)


def _supervisor_env(program: str, text: str) -> dict[str, str]:
    if not text:
        return {}
    found = {}
    for match in re.finditer(r'\s*([^=,\s]+)\s*=\s*("[^"]*"|\'[^\']*\'|[^,]*)\s*,?', text):
        found[match[1]] = match[2].strip("\"'").replace("$", "$$")
    if not found:
        raise BadInput(f"{program}: the environment {text!r} cannot be read")
    return found


# --- PM2


def pm2(name: str, text: str, *, take_over: bool) -> Imported:
    """Every process of ~/.pm2/dump.pm2."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as e:
        raise BadInput(f"{name}: broken JSON at line {e.lineno}, column {e.colno}: {e.msg}") from e
    found = Imported()
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or "pm_exec_path" not in row:
            raise BadInput(f"{name}: expected processes with a pm_exec_path, as `pm2 save` writes them")
        title = _plain(str(row.get("name", "app")))
        count = sum(k == title or re.fullmatch(rf"{re.escape(title)}-\d+", k) is not None for k in found.modules)
        found.modules[f"{title}-{count + 1}" if count else title] = _pm2_one(row, found, take_over=take_over)
    return found


def _pm2_one(row: dict[str, Any], found: Imported, *, take_over: bool) -> dict[str, Any]:
    title = str(row.get("name", "app"))
    logs = {"out": str(row.get("pm_out_log_path", "")), "err": str(row.get("pm_err_log_path", ""))}
    external: dict[str, Any] = {"log_paths": {k: v for k, v in logs.items() if v.startswith("/")}}
    if row.get("exec_mode") == "cluster_mode":
        found.warnings.append(f"{title}: runs in PM2's cluster mode; each process stands alone here")
    if not take_over:
        pid_file = str(row.get("pm_pid_path", ""))
        control = {
            "entrypoint": "pm2",
            "args": ["start", title],
            "stop_entrypoint": "pm2",
            "stop_args": ["stop", title],
        }
        return _tidy({**external, "pid_strategy": "pidfile", "pid_file": pid_file, **control, "restart": "never"})
    interpreter = str(row.get("exec_interpreter") or "none")
    script = str(row["pm_exec_path"])
    more = row.get("args") or []
    words = [str(w) for w in (more if isinstance(more, list) else shlex.split(str(more)))]
    nodes = row.get("node_args") or []
    argv = [script, *words] if interpreter == "none" else [interpreter, *map(str, nodes), script, *words]
    external |= {
        "pid_strategy": "spawn",
        "external_work_dir": str(row.get("pm_cwd") or "/"),
        "entrypoint": argv[0],
        "args": [w.replace("$", "$$") for w in argv[1:]],
        "env": {k: str(v).replace("$", "$$") for k, v in _own_env(row).items()},
        "restart": "never" if row.get("autorestart") is False else "always",
        "stop_signal": "INT",
    }
    if row.get("max_memory_restart"):
        size = row["max_memory_restart"]
        bytes_ = size if isinstance(size, int) else parse_size(str(size))
        found.warnings.append(f"{title}: max_memory_restart ({bytes_} bytes) becomes a hard limit only for packages")
    return _tidy(external)


def _own_env(row: dict[str, Any]) -> dict[str, Any]:
    """PM2 keeps the whole environment of the shell; what it was given by itself is what counts."""
    given = row.get("env") if isinstance(row.get("env"), dict) else {}
    assert isinstance(given, dict)
    noise = ("PATH", "HOME", "PWD", "SHELL", "USER", "LOGNAME", "TERM", "_", "SHLVL", "OLDPWD", "LANG", "unique_id")
    return {
        k: v
        for k, v in given.items()
        if k not in noise and not k.startswith(("PM2", "pm_", "SSH_", "XDG_", "LS_", "npm_")) and _is_plain(v)
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


# --- systemd

_RESTART = {"no": "never", "always": "always", "on-failure": "on-failure", "on-abnormal": "on-failure"}


def systemd(name: str, text: str, *, take_over: bool) -> Imported:
    """One unit of type service; `name` is its file."""
    unit = name.rsplit("/", 1)[-1]
    unit = unit if unit.endswith(".service") else f"{unit}.service"
    title = _plain(unit.removesuffix(".service"))
    keys = _unit_keys(text)
    found = Imported()
    if not take_over:
        control = {"entrypoint": "systemctl", "args": ["start", unit], "stop_entrypoint": "systemctl"}
        external = {"pid_strategy": "systemd", "unit": unit, **control, "stop_args": ["stop", unit], "restart": "never"}
        found.modules[title] = external
        return found
    if keys.get("Type", ["simple"])[-1] not in ("simple", "exec", "notify"):
        raise BadInput(
            f"{name}: Type={keys['Type'][-1]} leaves its process to itself and cannot be taken over; adopt it"
        )
    command = keys.get("ExecStart", [""])[-1].lstrip("-@:+!")
    words = _words(unit, command)
    known = {"Type", "ExecStart", "WorkingDirectory", "User", "Environment", "Restart", "RestartSec", "TimeoutStopSec"}
    ignored = {"Description", "After", "Wants", "Requires", "WantedBy", "Documentation", "KillSignal"}
    left = sorted(keys.keys() - known - ignored)
    if left:
        found.warnings.append(f"{unit}: not carried over: {', '.join(left)}")
    env: dict[str, str] = {}
    for line in keys.get("Environment", []):
        env |= dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    found.modules[title] = _tidy(
        {
            "pid_strategy": "spawn",
            "external_work_dir": keys.get("WorkingDirectory", ["/"])[-1].lstrip("-"),
            "entrypoint": words[0],
            "args": [w.replace("$", "$$") for w in words[1:]],
            "env": {k: v.replace("$", "$$") for k, v in env.items()},
            "user": keys.get("User", [""])[-1],
            "restart": _RESTART.get(keys.get("Restart", ["no"])[-1], "on-failure"),
            "restart_delay": _seconds(keys.get("RestartSec", ["100ms"])[-1]),
            "stop_signal": keys.get("KillSignal", ["TERM"])[-1].removeprefix("SIG"),
            "stop_timeout": max(1, int(_seconds(keys.get("TimeoutStopSec", ["90s"])[-1]))),
        }
    )
    return found


def _unit_keys(text: str) -> dict[str, list[str]]:
    """Every key with its values in order; an empty value forgets those before, as systemd does."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or line.lstrip().startswith(("#", ";", "[")):
            continue
        if not value.strip():
            found.pop(key.strip(), None)
        else:
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def _seconds(text: str) -> float:
    tidy = re.sub(r"\s+", "", text).replace("min", "m").replace("sec", "s")
    return 3600.0 if tidy == "infinity" else min(parse_duration(tidy), 3600.0)
