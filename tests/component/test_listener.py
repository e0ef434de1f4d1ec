"""The two seams under uvicorn: our parser subclass (`http=`) and our WebSocket class (`ws=`), on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from gdos.master import listener
from gdos.master.sockets import WRITE_ABORT, Socket, Sweep
from gdos.master.wsgi import Bridge
from gdos.model.errors import NotAllowed
from tests.kit.wait import wait_until


class Echo:
    """Sends back what comes; 'boom' fails, 'flood' sends without end."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self.is_closed = False

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes) -> None:
        assert self.socket is not None
        if data == b"boom":
            raise RuntimeError("boom")
        if data == b"flood":
            for _ in range(200):
                self.socket.send(b"x" * 65536)
        self.socket.send(data)

    def closed(self) -> None:
        self.is_closed = True


def wsgi(environ: dict[str, Any], start: Any) -> Any:
    body = environ["wsgi.input"].read(1 << 30)
    if environ["PATH_INFO"] == "/stream":
        start("200 OK", [("Content-Type", "text/plain")])
        return (b"%d\n" % n for n in range(1000))
    start("200 OK", [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])])
    return [b"%d" % len(body)]


class Served:
    def __init__(self) -> None:
        self.echoes: list[Echo] = []
        self.sock = listener.bind("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]
        self.sweep = Sweep(time.monotonic, interval_s=0.1, silence_s=0.5)
        self.bridge = Bridge(wsgi, lambda method, path: "transfer" if path == "/transfer" else "api", "/base")
        self.server = listener.build(self.bridge, self.gate, self.sweep, None)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))
        self.thread.start()
        wait_until(lambda: self.server.started, "the server")

    async def gate(self, path: str, headers: dict[str, str], address: str) -> Echo:
        await asyncio.sleep(0.01)
        if headers.get("x-key") != "right":
            raise NotAllowed("wrong key")
        self.echoes.append(Echo())
        return self.echoes[-1]

    async def run(self) -> None:
        sweep = asyncio.create_task(self.sweep.run())
        await self.server.serve(sockets=[self.sock])
        sweep.cancel()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(15)
        self.bridge.close()

    def connect(self) -> websocket.WebSocket:
        return websocket.create_connection(f"ws://127.0.0.1:{self.port}/x", header=["X-Key: right"], timeout=10)

    def ask(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as s:
            s.sendall(data)
            out = b""
            while part := s.recv(65536):
                out += part
            return out


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_the_gate_decides_before_the_upgrade(served: Served) -> None:
    link = served.connect()
    for text in ("one", "x" * 300_000, ""):
        link.send(text)
        assert link.recv() == text
    link.close()
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(f"ws://127.0.0.1:{served.port}/x", timeout=10)
    assert caught.value.status_code == 403
    assert b"wrong key" in (caught.value.resp_body or b"")
    wait_until(lambda: served.echoes[0].is_closed, "the endpoint to hear of the end")


def test_an_error_in_an_endpoint_ends_that_socket_only(served: Served) -> None:
    bad, good = served.connect(), served.connect()
    bad.send("boom")
    with pytest.raises((websocket.WebSocketException, OSError)):
        bad.recv()
        bad.recv()
    good.send("still here")
    assert good.recv() == "still here"


def test_a_message_that_is_too_large_ends_the_socket(served: Served) -> None:
    link = served.connect()
    with contextlib.suppress(websocket.WebSocketException, OSError):
        link.send("x" * (2 << 20))
        while link.recv():  # '' is the close frame
            pass
    with pytest.raises((websocket.WebSocketException, OSError)):
        link.send("still here")
        link.recv()


def test_a_silent_peer_is_cut_and_one_that_answers_pings_is_not(served: Served) -> None:
    dead, alive = served.connect(), served.connect()
    alive.settimeout(0.05)

    def pump() -> bool:
        try:
            alive.recv_data(control_frame=True)
        except websocket.WebSocketTimeoutException:
            pass
        return served.echoes[0].is_closed

    wait_until(pump, "the silent one to be cut")
    assert not served.echoes[1].is_closed
    dead.shutdown()


def test_a_reader_that_does_not_read_is_cut_and_costs_no_memory(served: Served) -> None:
    link = served.connect()
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.send("flood")
    wait_until(lambda: served.echoes[0].is_closed, "the slow reader to be cut")
    assert WRITE_ABORT < 200 * 65536


def test_the_bridge(served: Served) -> None:
    get = b"GET /base/a%20b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b"x-path: /a b" in served.ask(get)
    assert b"404" in served.ask(b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").split(b"\r\n")[0]
    body = b"y" * 3_000_000
    post = b"POST /base/transfer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert served.ask(post + body).endswith(b"3000000")
    stream = served.ask(b"GET /base/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"999\n" in stream


def test_a_client_that_breaks_off_does_not_hold_a_thread(served: Served) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as s:
            s.sendall(b"POST /base/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    assert served.ask(b"GET /base/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"0")


def test_a_head_that_is_too_large_is_refused_and_a_large_body_is_not(served: Served) -> None:
    big = b"GET /base/ HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 40_000 + b"\r\n\r\n"
    assert b"400" in served.ask(big).split(b"\r\n")[0]


def test_a_taken_port_is_said_in_words() -> None:
    from gdos.model.errors import Conflict

    first = listener.bind("127.0.0.1", 0)
    first.listen()
    with pytest.raises(Conflict, match="is taken by another program"):
        listener.bind("127.0.0.1", first.getsockname()[1])
    first.close()
