"""Is it ready? One look each, with a bounded wait; the answer is None for yes, or the reason in words."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gdos.model.manifest import port_of
from gdos.worker import livelog
from gdos.worker.executor.launch import Probe, split_command
from gdos.worker.platform import users

if TYPE_CHECKING:
    from http.client import HTTPConnection  # imported where it is used: a worker without such probes does without

LOOK_S = 3.0
_LOG_MAX = 1 << 20


def look(probe: Probe) -> str | None:
    """None when the probe says yes, otherwise why not."""
    return _LOOKS[probe.kind](probe)


def _tcp(probe: Probe) -> str | None:
    try:
        with socket.create_connection(port_of(probe.target), timeout=LOOK_S):
            return None
    except (OSError, ValueError) as e:
        return f"{probe.target}: {_words(e)}"


def _http(probe: Probe) -> str | None:
    import http.client

    parts = urlsplit(probe.target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = _connect(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("GET", path, headers={"Connection": "close", "User-Agent": "gdos-probe"})
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as e:
        return f"{probe.target}: {_words(e)}"
    return None if 200 <= status < 400 else f"{probe.target} answered {status}"


def _connect(scheme: str, host: str, port: int | None) -> HTTPConnection:
    import http.client
    import ssl

    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # readiness, not trust: services on a node have certificates of their own
        return http.client.HTTPSConnection(host, port, timeout=LOOK_S, context=context)
    return http.client.HTTPConnection(host, port, timeout=LOOK_S)


def _exec(probe: Probe) -> str | None:
    argv = split_command(probe.target)
    try:
        done = subprocess.run(
            argv,
            cwd=probe.cwd,
            env=dict(probe.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=min(probe.timeout_s, 10.0),
            check=False,
            **users.as_user(probe.user),
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end in time"
    except OSError as e:
        return f"{argv[0]}: {_words(e)}"
    if done.returncode == 0:
        return None
    last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
    return f"{argv[0]} ended with {done.returncode}{': ' + last[0][:200] if last else ''}"


def _log(probe: Probe) -> str | None:
    pattern = re.compile(probe.target)
    text = read_from(probe.log, probe.log_from, _LOG_MAX)  # the last of it, when there is very much
    return None if pattern.search(text) else f"{probe.target!r} has not appeared in app.log"


def read_from(path: Path, offset: int, limit: int) -> str:
    """Text of a log from `offset` on, its last `limit` bytes; '' when it is not there."""
    try:
        with open(path, "rb") as file, livelog.held(path):
            now = livelog.span(file.fileno(), path)
            start = min(max(offset - now.shift, now.first), now.size)
            file.seek(max(start, now.size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {LOOK_S:.0f} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


_LOOKS: dict[str, Callable[[Probe], str | None]] = {"tcp": _tcp, "http": _http, "exec": _exec, "log": _log}
