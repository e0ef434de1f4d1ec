"""The worker's own port, on loopback unless told otherwise: /healthz and /metrics. Plain HTTP/1.0, few and short."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from gdos.model.errors import Conflict
from gdos.model.metrics import HOST, INSTANCE

log = logging.getLogger(__name__)
HEAD_MAX = 8192
TIMEOUT_S = 5.0


class LocalPort:
    """One thread answers one request after the other; `health()` and `metrics()` give what is shown."""

    def __init__(self, host: str, port: int, health: Callable[[], dict[str, Any]], metrics: Callable[[], str]) -> None:
        self._health = health
        self._metrics = metrics
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(16)
        except OSError as e:
            self._socket.close()
            said = f"the worker's own port {port} on {host} cannot be opened ({e.strerror})"
            raise Conflict(f"{said}: choose another with --port, or --port 0 for none") from e
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._run, name="local-port", daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                try:
                    connection.settimeout(TIMEOUT_S)
                    self._serve(connection)
                except OSError as e:
                    log.debug("own port: %s", e)

    def _serve(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < HEAD_MAX:
            part = connection.recv(4096)
            if not part:
                return
            head += part
        words = head.split(b"\r\n", 1)[0].split()
        path = words[1].decode("latin1").partition("?")[0] if len(words) == 3 and words[0] == b"GET" else ""
        if path == "/healthz":
            status, kind, text = "200 OK", "application/json", json.dumps(self._health())
        elif path == "/metrics":
            status, kind, text = "200 OK", "text/plain; version=0.0.4; charset=utf-8", self._metrics()
        else:
            status, kind, text = "404 Not Found", "text/plain", "there are /healthz and /metrics\n"
        body = text.encode()
        head_out = (
            f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head_out.encode() + body)


def exposition(host: list[float], instances: dict[str, tuple[str, list[float]]]) -> str:
    """Prometheus text of one sample; `instances`: id -> (name, values)."""
    lines = []
    for column, value in zip(HOST, host, strict=False):
        lines += [
            f"# HELP gdos_node_{column.name} {column.text} ({column.unit})",
            f"# TYPE gdos_node_{column.name} gauge",
        ]
        lines.append(f"gdos_node_{column.name} {value:g}")
    for i, column in enumerate(INSTANCE):
        lines += [
            f"# HELP gdos_instance_{column.name} {column.text} ({column.unit})",
            f"# TYPE gdos_instance_{column.name} gauge",
        ]
        for id_, (name, values) in instances.items():
            lines.append(
                f'gdos_instance_{column.name}{{id="{_escaped(id_)}",instance="{_escaped(name)}"}} {values[i]:g}'
            )
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
