"""One WebSocket connection as an asyncio protocol, on the sans-I/O ServerProtocol of `websockets`.

Runs on the event loop. Direct callbacks, no task and no queue per connection: 6 KB each. uvicorn hands the upgrade
request over (`ws=`); nothing is accepted before `Gate` has said who it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from gdos.model.errors import GdosError

WRITE_HIGH = 256 << 10
WRITE_ABORT = 4 << 20
"""A peer that leaves so much unread is cut off: memory must not grow with somebody's slowness."""
MESSAGE_MAX = 1 << 20
log = logging.getLogger(__name__)


class Endpoint(Protocol):
    """Who takes the messages of one accepted socket. All calls come on the event loop."""

    def opened(self, socket: Socket) -> None: ...
    def received(self, data: bytes) -> None: ...
    def closed(self) -> None: ...


class Gate(Protocol):
    """Says who may connect: the endpoint for an upgrade request, or raises GdosError."""

    def __call__(self, path: str, headers: dict[str, str], address: str) -> Awaitable[Endpoint]: ...


class Socket(asyncio.Protocol):
    """See the module. `alive` is set by every byte that arrives and cleared by the sweep."""

    def __init__(self, gate: Gate, sweep: Sweep, connections: set[Any], now: Callable[[], float]) -> None:
        self._conn = ServerProtocol(max_size=MESSAGE_MAX)
        self._gate = gate
        self._sweep = sweep
        self._connections = connections
        self._now = now
        self._endpoint: Endpoint | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.heard_at = now()
        self.is_paused = False
        self.address = ""

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._sweep.sockets.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        if self._endpoint is not None:
            self._endpoint.closed()
            self._endpoint = None
        self._transport = None

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._now()
        if self._opening is not None:
            if len(self._early) < 64:
                self._early.append(data)
            return
        self._conn.receive_data(data)
        for event in self._conn.events_received():
            if isinstance(event, Request):
                self._opening = asyncio.get_running_loop().create_task(self._open(event))
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def shutdown(self) -> None:
        """uvicorn's wish: the server stops."""
        self.close(1012, "the master is stopping")

    # --- for endpoints

    def send(self, data: bytes) -> None:
        """One text message. Never waits; a peer that does not read is cut off in the end."""
        if self._transport is None or self._conn.state is not State.OPEN:
            return
        self._conn.send_text(data)
        self._flush()
        if self._transport is not None and self._transport.get_write_buffer_size() > WRITE_ABORT:
            log.warning("%s does not read; its connection is cut", self.address)
            self._transport.abort()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and close."""
        if self._transport is None:
            return
        if self._conn.state is State.OPEN:
            self._conn.send_close(code, reason.encode()[:120].decode(errors="ignore"))
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut it now: the peer is dead."""
        if self._transport is not None:
            self._transport.abort()

    def ping(self) -> None:
        if self._transport is not None and self._conn.state is State.OPEN:
            self._conn.send_ping(b"")
            self._flush()

    # --- inside

    async def _open(self, request: Request) -> None:
        """Ask the gate; accept or refuse; then take what came meanwhile."""
        headers = {k.lower(): v for k, v in request.headers.raw_items()}
        try:
            endpoint = await self._gate(request.path, headers, self.address)
        except GdosError as e:
            self._refuse(e)
            return
        except Exception:
            log.exception("a WebSocket could not be opened")
            self._refuse(GdosError("an error of the master itself; its log has it"))
            return
        finally:
            self._opening = None
        if self._transport is None:
            return
        try:
            response = self._conn.accept(request)
        except InvalidHandshake as e:
            self._refuse(GdosError(f"not a WebSocket handshake: {e}"))
            return
        self._conn.send_response(response)
        self._flush()
        if self._conn.state is not State.OPEN or self._transport is None:
            self.close(1002)
            return
        self._endpoint = endpoint
        self._sweep.sockets.add(self)
        endpoint.opened(self)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def _refuse(self, error: GdosError) -> None:
        if self._transport is None:
            return
        text = error.detail + "\n"
        self._conn.send_response(self._conn.reject(error.status, text))
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if sum(map(len, self._parts)) > MESSAGE_MAX:
                self.close(1009, f"a message may have at most {MESSAGE_MAX} bytes")
            elif frame.fin:
                data, self._parts = b"".join(self._parts), []
                self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        if self._endpoint is None:
            return
        try:
            self._endpoint.received(data)
        except GdosError as e:
            self.close(1008, e.detail)
        except Exception:
            log.exception("a message from %s could not be handled", self.address)
            self.close(1011, "an error of the master itself")

    def _flush(self) -> None:
        if self._transport is None:
            return
        out = self._conn.data_to_send()
        data = b"".join(out)
        if data:
            self._transport.write(data)
        if b"" in out or self._conn.close_expected():
            self._transport.close()


class Sweep:
    """One timer for all sockets: ping, and cut those that were silent for too long."""

    def __init__(self, now: Callable[[], float], interval_s: float = 5.0, silence_s: float = 15.0) -> None:
        self.sockets: set[Socket] = set()
        self._now = now
        self._interval_s = interval_s
        self._silence_s = silence_s

    async def run(self) -> None:
        """Until cancelled. Spread over the interval, so that thousands of pings do not come at once."""
        while True:
            sockets = list(self.sockets)
            slices = max(1, min(50, len(sockets) // 20))
            for i in range(slices):
                for socket in sockets[i::slices]:
                    self._look(socket)
                await asyncio.sleep(self._interval_s / slices)

    def _look(self, socket: Socket) -> None:
        if self._now() - socket.heard_at > self._silence_s:
            socket.abort()
        else:
            socket.ping()
