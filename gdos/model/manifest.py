"""service.json: its fields, their defaults, and one validator that reports all problems at once.

`gdos pack`, an upload and the console call the same `read()`. Field by field: docs/service-json.md.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gdos.model import checking, cron, jsonc
from gdos.model.errors import BadInput, BadPackage, Problem, raise_if
from gdos.model.placeholders import names_in
from gdos.model.values import NAME_PATTERN, VERSION_PATTERN, parse_size

FILE = "service.json"
HOOKS = ("pre_start", "post_start", "pre_stop", "post_stop", "pre_upgrade", "post_upgrade")

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Version = Annotated[str, Meta(pattern=VERSION_PATTERN)]
Seconds = Annotated[int, Meta(ge=1, le=3600, extra={"unit": "seconds"})]
Delay = Annotated[float, Meta(ge=0, le=86400, extra={"unit": "seconds"})]
Port = Annotated[int, Meta(ge=1, le=65535, extra={"what": "a port from 1 to 65535"})]
Command = list[str]
SignalName = Annotated[str, Meta(pattern=r"^(SIG)?[A-Z][A-Z0-9]+$", extra={"what": "a signal name such as TERM"})]
UserName = Annotated[str, Meta(max_length=256)]


class Limits(msgspec.Struct, frozen=True):
    memory: str | None = None
    cpu: Annotated[float, Meta(gt=0, extra={"what": "a number of cores above 0"})] | None = None
    open_files: Annotated[int, Meta(ge=1)] | None = None
    processes: Annotated[int, Meta(ge=1)] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One service, as its package describes it."""

    name: Name
    version: Version
    description: str = ""
    os: Literal["", "linux", "windows", "darwin"] = ""
    entrypoint: str = ""
    args: list[str] = []
    env: dict[str, str] = {}
    stop_entrypoint: str = ""
    stop_args: list[str] = []
    stop_signal: SignalName = "TERM"
    stop_timeout: Seconds = 10
    readiness_type: Literal["none", "tcp", "http", "time", "exec", "log"] = "none"
    readiness_target: str = ""
    readiness_timeout: Seconds = 30
    liveness_type: Literal["none", "tcp", "http", "exec"] = "none"
    liveness_target: str = ""
    liveness_interval: Seconds = 10
    liveness_failures: Annotated[int, Meta(ge=1, le=1000)] = 3
    log_paths: dict[str, str] = {}
    restart: Literal["always", "on-failure", "never"] = "on-failure"
    restart_delay: Delay = 1.0
    restart_max_delay: Delay = 60.0
    restart_reset: Delay = 300.0
    restart_max_retries: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limits: Limits = Limits()
    limits_optional: bool = False
    user: UserName = ""
    kind: Literal["service", "job", "cron"] = "service"
    schedule: str = ""
    timezone: str = ""
    overlap: Literal["skip", "allow"] = "skip"
    catch_up: Literal["skip", "once"] = "skip"
    keep_runs: Annotated[int, Meta(ge=1, le=1000)] = 20
    templates: list[str] = []
    data_dirs: list[str] = []
    ports: dict[str, Port] = {}
    hooks: dict[str, Command] = {}
    hook_timeout: Seconds = 60
    is_external: bool = False
    external_work_dir: str = ""
    pid_strategy: Literal["spawn", "match", "pidfile", "port", "systemd"] = "spawn"
    process_name: str = ""
    match_args: str = ""
    pid_file: str = ""
    port: Port | None = None
    unit: str = ""


class Checked(msgspec.Struct, frozen=True):
    """A valid manifest, and what is worth a word without being an error."""

    manifest: Manifest
    warnings: list[str]


def read(data: bytes, source: str = FILE) -> Checked:
    """The manifest in `data`. Raises BadPackage with every problem and its path."""
    raw = jsonc.loads(data, source)
    if not isinstance(raw, dict):
        raise BadPackage(f"{source}: expected a JSON object, got {checking.show(raw)}")
    return check(raw, source)


def check(raw: dict[str, Any], source: str = FILE) -> Checked:
    """The same for data that is parsed already."""
    tidy, warnings = _tidy(raw)
    problems = checking.problems_of(Manifest, tidy, allow_unknown=True)
    if not problems:
        problems = _rules(msgspec.convert(tidy, Manifest))
    elif isinstance(tidy.get("entrypoint", ""), str) and not tidy.get("is_external"):
        problems += _path_problems("entrypoint", tidy.get("entrypoint", ""))
    raise_if(problems, source, BadPackage)
    return Checked(msgspec.convert(tidy, Manifest), warnings)


def _tidy(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the original took as 'not given' goes: null, "" for a choice, 0 for a time-out; its key case is folded."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(Manifest)}
    tidy: dict[str, Any] = {}
    warnings: list[str] = []
    for key, value in raw.items():
        name = key if key in fields else key.lower()
        if name not in fields or name in tidy:
            warnings.append(f"{key}: is not a known field; it is kept and has no effect")
            continue
        if name != key:
            warnings.append(f"{key}: write it as {name}")
        if value is None or (value == "" and fields[name].default is not msgspec.NODEFAULT):
            continue
        if name.endswith("_timeout") and value == 0 and not isinstance(value, bool):
            warnings.append(f"{name}: 0 is taken as not given, so the default of {fields[name].default} holds")
            continue
        if name == "readiness_target" and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        tidy[name] = value
    return tidy, warnings


def _rules(m: Manifest) -> list[Problem]:
    """What the types alone cannot say."""
    found: list[Problem] = []
    if not m.entrypoint and not (m.is_external and m.pid_strategy != "spawn"):
        found.append(Problem("entrypoint", "is missing; expected the program to run, relative to the package root"))
    if not m.is_external:
        found += _path_problems("entrypoint", m.entrypoint)
        found += _path_problems("stop_entrypoint", m.stop_entrypoint)
    for field, paths in (("templates", m.templates), ("data_dirs", m.data_dirs)):
        for i, path in enumerate(paths):
            found += _path_problems(f"{field}[{i}]", path, needed=True)
    for name, path in m.log_paths.items():
        if name in ("", "app.log") or "/" in name:
            found.append(Problem(f"log_paths.{name}", "expected a display name without / that is not app.log"))
        if not (m.is_external and path.startswith("/")):
            found += _path_problems(f"log_paths.{name}", path, needed=True)
    found += _probe_problems("readiness", m.readiness_type, m.readiness_target)
    found += _probe_problems("liveness", m.liveness_type, m.liveness_target)
    for hook in m.hooks.keys() - set(HOOKS):
        found.append(Problem(f"hooks.{hook}", f"is not a hook; known are {', '.join(HOOKS)}"))
    for hook, command in m.hooks.items():
        if not command:
            found.append(Problem(f"hooks.{hook}", "expected a command as a list of strings, got an empty list"))
    found += _more_rules(m)
    return found


def _more_rules(m: Manifest) -> list[Problem]:
    found: list[Problem] = []
    for key in m.env:
        if not re.fullmatch(r"[^=\0]+", key):
            found.append(Problem(f"env.{key}", "expected a name without = and without a zero byte"))
    for field, values in (("env", list(m.env.values())), ("args", m.args)):
        found += [Problem(field, "a value holds a zero byte") for value in values if "\0" in value]
    if m.limits.memory is not None:
        try:
            parse_size(m.limits.memory)
        except BadInput as e:
            found.append(Problem("limits.memory", str(e)))
    if m.restart_max_delay < m.restart_delay:
        found.append(Problem("restart_max_delay", f"expected at least restart_delay ({m.restart_delay:g})"))
    found += _schedule_problems(m)
    found += _adopted_problems(m)
    for where, text in _templated(m):
        try:
            names_in(text)
        except ValueError as e:
            found.append(Problem(where, str(e)))
    twice = {p for p in m.ports.values() if list(m.ports.values()).count(p) > 1}
    found += [Problem("ports", f"the port {p} stands there twice") for p in sorted(twice)]
    return found


def _templated(m: Manifest) -> list[tuple[str, str]]:
    """The strings in which ${NAME} is replaced at start, with their paths."""
    out = [(f"args[{i}]", text) for i, text in enumerate(m.args)]
    out += [(f"env.{key}", text) for key, text in m.env.items()]
    out += [("readiness_target", m.readiness_target), ("liveness_target", m.liveness_target)]
    out += [(f"log_paths.{name}", text) for name, text in m.log_paths.items()]
    out += [(f"hooks.{name}[{i}]", text) for name, words in m.hooks.items() for i, text in enumerate(words)]
    return out


def _schedule_problems(m: Manifest) -> list[Problem]:
    found: list[Problem] = []
    if m.kind == "cron" and not m.schedule:
        found.append(Problem("schedule", "is missing; a cron service needs a five-field cron expression"))
    elif m.kind != "cron" and m.schedule:
        found.append(Problem("schedule", f'is for "kind": "cron", this is a {m.kind}'))
    for field, text, check in (("schedule", m.schedule, cron.check), ("timezone", m.timezone, cron.check_zone)):
        try:
            check(text) if text else None
        except ValueError as e:
            found.append(Problem(field, str(e)))
    return found


_NEEDS = {"match": ("process_name", "match_args"), "pidfile": ("pid_file",), "port": ("port",), "systemd": ("unit",)}


def _adopted_problems(m: Manifest) -> list[Problem]:
    """What a service that is adopted needs to be found by."""
    if not m.is_external:
        return []
    found: list[Problem] = []
    needs = _NEEDS.get(m.pid_strategy, ())
    if needs and not any(getattr(m, field) for field in needs):
        found.append(Problem(needs[0], f"is missing; pid_strategy {m.pid_strategy} needs {' or '.join(needs)}"))
    if m.kind != "service":
        found.append(Problem("kind", f"expected service, since an adopted process is one, got {m.kind}"))
    for field in ("external_work_dir", "pid_file"):
        path = getattr(m, field)
        if path and not path.startswith("/") and not re.match(r"^[A-Za-z]:[\\/]", path):
            found.append(Problem(field, f"expected an absolute path, got {checking.show(path)}"))
    if m.pid_strategy == "spawn" and not m.external_work_dir:
        found.append(Problem("external_work_dir", "is missing; spawn needs the folder to start the entrypoint in"))
    if m.match_args:
        try:
            re.compile(m.match_args)
        except re.error as e:
            found.append(Problem("match_args", f"is not a regular expression: {e}"))
    return found


def _path_problems(field: str, path: str, *, needed: bool = False) -> list[Problem]:
    """Only plain relative paths with / may stand in a package."""
    if not path:
        return [Problem(field, 'expected a path relative to the package root, got ""')] if needed else []
    bad = (
        path.startswith(("/", "~"))
        or "\\" in path
        or "\0" in path
        or re.match(r"^[A-Za-z]:", path) is not None
        or ".." in path.split("/")
    )
    if not bad:
        return []
    allowed = "expected a path inside the package, with / and without .., drive letters or backslashes"
    return [Problem(field, f"{allowed}, got {checking.show(path)}")]


def _probe_problems(which: str, kind: str, target: str) -> list[Problem]:
    """Whether the target can be one for that kind of probe; text with ${...} is judged when it is filled in."""
    field = f"{which}_target"
    if kind == "none" or "${" in target:
        return []
    if not target:
        return [Problem(field, f"is missing; {which}_type {kind} needs {_TARGETS[kind][1]}")]
    if re.search(_TARGETS[kind][0], target) is None:
        return [Problem(field, f"expected {_TARGETS[kind][1]}, got {checking.show(target)}")]
    if kind == "log":
        try:
            re.compile(target)
        except re.error as e:
            return [Problem(field, f"is not a regular expression: {e}")]
    return []


_TARGETS = {
    "tcp": (r"^(\[[0-9a-fA-F:]+\]|[^:\s]*):\d{1,5}$", 'host:port such as "127.0.0.1:8080"'),
    "http": (r"^https?://[^\s/]+", 'a URL such as "http://127.0.0.1:8080/health"'),
    "time": (r"^\d+(\.\d+)?$", 'a number of seconds such as "5"'),
    "exec": (r"\S", "a command line"),
    "log": (r".", "a regular expression"),
}


def port_of(target: str) -> tuple[str, int]:
    """'host:port' -> both; an empty host is the loopback. Raises ValueError."""
    host, _, port = target.rpartition(":")
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {number}")
    return host.strip("[]") or "127.0.0.1", number
