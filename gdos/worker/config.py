"""The worker's settings. Keys are the original's where it had them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gdos import settings as s
from gdos.model.errors import BadInput
from gdos.settings import Resolved, Setting
from gdos.worker.executor.rotate import Policy

PREFIX = "OPS_WORKER_"
FILE = "worker.yaml"
ALLOWED = ("deploy", "supervise", "terminal", "adopt", "exec", "update")
DEFAULT_ALLOW = ["deploy", "supervise", "terminal", "adopt", "exec", "update"]


def _url(value: Any) -> str:
    text = str(value).rstrip("/")
    text = text if "://" in text else f"http://{text}"
    parts = urlsplit(text)
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(f'expected a URL such as "http://10.0.0.1:8080", got {value!r}')
    return text


def _allow(value: Any) -> list[str]:
    words = s.words(value)
    wrong = [w for w in words if w not in ALLOWED]
    if wrong:
        raise BadInput(f"expected some of {', '.join(ALLOWED)}, got {', '.join(wrong)}")
    return words


def _name(value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", str(value)):
        raise BadInput(f"expected a name of letters, digits, . _ and -, got {value!r}")
    return str(value)


TABLE: tuple[Setting, ...] = (
    Setting("server.host", "host", "127.0.0.1", s.text, "address of the worker's own port"),
    Setting("server.port", "port", 8081, s.port, "port of /healthz and /metrics; 0 for none"),
    Setting("connect.master_url", "master", "http://127.0.0.1:8080", _url, "where the master is"),
    Setting("connect.join_token", "join-token", "", s.text, "token of the first connection", is_secret=True),
    Setting("node.work_dir", "work-dir", "./instances", s.text, "folder of all instances"),
    Setting("node.name", "name", "", _name, "the node's name (default: the host's)"),
    Setting("node.labels", "label", {}, s.labels, "labels, key=value"),
    Setting("node.allow", "allow", DEFAULT_ALLOW, _allow, "what the master may do here"),
    Setting("node.autostart", "autostart", None, s.flag, "install (1) or remove (0) the start at boot"),
    Setting("cache.max_size", "cache-size", 4 << 30, s.size, "space for downloaded packages"),
    Setting("log_rotate.max_size", "log-max-size", 50 << 20, s.megabytes, "size of app.log that means a new file"),
    Setting("log_rotate.max_backups", "log-max-backups", 5, s.integer(1, 1000), "old logs that are kept"),
    Setting("log_rotate.max_age", "log-max-age", 7, s.integer(1, 3650), "days that old logs are kept"),
    Setting("log_rotate.compress", "log-compress", True, s.flag, "compress old logs"),
    Setting("log_rotate.rotate_on_start", "rotate-on-start", True, s.flag, "a new log at each start"),
    Setting("log_rotate.instance_quota", "log-instance-quota", 512 << 20, s.size, "space of all logs of an instance"),
    Setting("log_rotate.node_quota", "log-node-quota", 10 << 30, s.size, "space of all logs of all instances"),
    Setting("log.format", "log-format", "text", s.choice("text", "json"), "text, or json lines"),
    Setting("log.level", "log-level", "info", s.choice("debug", "info", "warning", "error"), "what is logged"),
)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    host: str
    port: int
    master: str
    join_token: str
    work_dir: Path
    name: str
    labels: dict[str, str]
    allow: list[str]
    autostart: bool | None
    cache_size: int
    log_rotation: Policy
    log_format: str
    log_level: str
    resolved: Resolved


def load(flags: Mapping[str, Any], environ: Mapping[str, str], config_file: str | None) -> WorkerConfig:
    """The settings from all sources. Raises BadConfig."""
    given = dict(flags)
    if given.get("join-token") is None and environ.get("GDOS_JOIN_TOKEN"):
        given["join-token"] = environ["GDOS_JOIN_TOKEN"]
    r = s.resolve(TABLE, PREFIX, given, environ, s.read_file(config_file, FILE))
    rotation = Policy(
        r["log_rotate.max_size"],
        r["log_rotate.max_backups"],
        r["log_rotate.max_age"],
        r["log_rotate.compress"],
        r["log_rotate.rotate_on_start"],
        r["log_rotate.instance_quota"],
        r["log_rotate.node_quota"],
    )
    return WorkerConfig(
        host=r["server.host"],
        port=r["server.port"],
        master=r["connect.master_url"],
        join_token=r["connect.join_token"],
        work_dir=Path(r["node.work_dir"]),
        name=r["node.name"],
        labels=r["node.labels"],
        allow=r["node.allow"],
        autostart=r["node.autostart"],
        cache_size=r["cache.max_size"],
        log_rotation=rotation,
        log_format=r["log.format"],
        log_level=r["log.level"],
        resolved=r,
    )
