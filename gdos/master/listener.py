"""The one port: uvicorn with our WebSocket class, our WSGI bridge and the limits that uvicorn's parser lacks."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gdos.master.sockets import Gate, Socket, Sweep
from gdos.model.errors import BadConfig, Conflict, NotAllowed

HEAD_S = 15.0
HEAD_MAX = 32 << 10
_TLS_BUFFER = 16 << 10


class GuardedHttp(HttpToolsProtocol):
    """A request's head must come within HEAD_S and HEAD_MAX; an idle connection is closed by uvicorn's keep-alive."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._received > HEAD_MAX:  # in earlier reads; this one may hold the head's end and much of a body
                self._too_large()
                return
            self._received += len(data)
            if self._timer is None:
                self._arm()
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head = False
        if self._head_bytes + len(self.url) > HEAD_MAX:
            self._too_large()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes now is another head. An early answer does not count: the rest of that body still comes."""
        self._in_head = True
        self._received = 0
        super().on_message_complete()

    def _too_large(self) -> None:
        self._disarm()
        self.send_400_response(f"The request head is larger than {HEAD_MAX} bytes.")

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Listener(uvicorn.Server):
    """uvicorn's server; a signal ends it quietly instead of being raised again, so that the exit code is 0."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 takes a free one. Raises Conflict, NotAllowed, BadConfig in words."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} on {host} is taken by another program: choose another with --port") from e
        if e.errno == errno.EACCES:
            raise NotAllowed(f"port {port} needs more rights: choose one above 1023 with --port") from e
        raise BadConfig(f"cannot listen on {host}:{port}: {e.strerror or e}") from e
    sock.setblocking(False)
    return sock


def build(app: Any, gate: Gate, sweep: Sweep, tls: tuple[str, str] | None) -> Listener:
    """The server around an ASGI app and the WebSocket gate; `tls` is (certificate, key)."""

    def make_socket(config: Any, server_state: Any, app_state: Any) -> Socket:
        return Socket(gate, sweep, server_state.connections, time.monotonic)

    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=GuardedHttp,
        ws=make_socket,  # type: ignore[arg-type]
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    if tls:
        import asyncio.sslproto as sslproto

        sslproto.SSLProtocol.max_size = _TLS_BUFFER  # 48 KB a connection instead of 288
    return Listener(config)
