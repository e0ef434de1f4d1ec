"""The one connection to the master: dialled from here, dead peers noticed, dialled again with full jitter.

Two threads: this one connects and receives, a second sends. What is to be sent: frames in order, reports until they
are acknowledged, and the newest sample only.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import websocket

from gdos.model.errors import GdosError
from gdos.wire import codec
from gdos.wire import messages as m
from gdos.wire.session import WorkerSession
from gdos.worker.journal import Journal

log = logging.getLogger(__name__)
CONNECT_S = 10.0
BACKOFF_S, BACKOFF_MAX_S, REFUSED_S = 0.5, 30.0, 60.0
STABLE_S = 60.0
FRAMES_MAX = 2000
GATHER_S = 0.005


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Called on the link's threads; they must only pass on. `hello` makes the first message anew each time."""

    hello: Callable[[], m.Hello]
    received: Callable[[m.FromMaster], None]
    state: Callable[[bool, str], None]  # connected?, why not
    credential: Callable[[], str]


class Link:
    """Runs from `start` to `stop`."""

    def __init__(self, master: str, journal: Journal, callbacks: Callbacks) -> None:
        self._url = _socket_url(master)
        self._journal = journal
        self._callbacks = callbacks
        self._cond = threading.Condition()
        self._frames: collections.deque[bytes] = collections.deque()
        self._sample: bytes | None = None
        self._has_reports = False
        self._session: WorkerSession | None = None
        self._socket: websocket.WebSocket | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close and wait for the threads."""
        self._is_stopped.set()
        self._cut()
        if self._thread.is_alive():
            self._thread.join(5)

    # --- to send, any thread

    def send(self, message: m.Message) -> None:
        """In order; dropped while there is no link: what matters is said again after the hello."""
        with self._cond:
            if self._session is not None and len(self._frames) < FRAMES_MAX:
                self._frames.append(codec.encode(message))
                self._cond.notify()

    def send_sample(self, sample: m.Sample) -> None:
        """Replaces one that still waits."""
        with self._cond:
            if self._session is not None and self._session.welcome is not None:
                self._sample = codec.encode(sample)
                self._cond.notify()

    def reports_waiting(self) -> None:
        """The journal has something new."""
        with self._cond:
            if not self._has_reports:
                self._has_reports = True
                self._cond.notify()

    # --- the receiving thread

    def _run(self) -> None:
        tries = 0
        while not self._is_stopped.is_set():
            began = time.monotonic()
            refused = False
            try:
                self._live()
                reason = "the master closed the connection"
            except _RefusedError as e:
                reason, refused = str(e), True
            except (websocket.WebSocketException, OSError, GdosError, ValueError) as e:
                reason = _words(e)
            if self._is_stopped.is_set():
                return
            tries = 0 if time.monotonic() - began > STABLE_S else tries + 1
            limit = REFUSED_S if refused else min(BACKOFF_S * 2.0 ** min(tries, 10), BACKOFF_MAX_S)
            wait = limit if refused else random.uniform(0, limit)
            self._callbacks.state(False, reason)
            self._is_stopped.wait(wait)

    def _live(self) -> None:
        """One connection from the dial to its end."""
        connection = self._dial()
        session = WorkerSession(self._callbacks.hello(), time.monotonic())
        connection.send(session.start())
        with self._cond:
            self._socket, self._session = connection, session
            self._frames.clear()
            self._sample = None
            self._has_reports = True
        sender = threading.Thread(target=self._send_loop, args=(connection, session), name="link-sender", daemon=True)
        sender.start()
        try:
            self._receive_loop(connection, session)
        finally:
            self._cut()
            sender.join(CONNECT_S)
            connection.shutdown()  # type: ignore[no-untyped-call]

    def _dial(self) -> websocket.WebSocket:
        options = {"context": ssl.create_default_context()} if self._url.startswith("wss:") else {}
        return websocket.create_connection(
            self._url,
            timeout=CONNECT_S,
            header=[f"Authorization: Bearer {self._callbacks.credential()}"],
            sslopt=options,
            enable_multithread=True,
            suppress_origin=True,
            skip_utf8_validation=True,
        )

    def _receive_loop(self, connection: websocket.WebSocket, session: WorkerSession) -> None:
        while not self._is_stopped.is_set():
            left = session.deadline() - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing was heard of the master; the connection counts as dead")
            connection.settimeout(left)
            opcode, data = connection.recv_data(control_frame=True)
            if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
                message = session.receive(data, time.monotonic())
                if isinstance(message, m.Refused):
                    raise _RefusedError(message.reason)
                if message is not None:
                    self._take(message)
            elif opcode == websocket.ABNF.OPCODE_CLOSE:
                return
            else:
                session.heard(time.monotonic())

    def _take(self, message: m.FromMaster) -> None:
        if isinstance(message, m.Welcome):
            self._journal.acknowledge(message.acked)
            self._callbacks.state(True, "")
            self.reports_waiting()
        elif isinstance(message, m.ReportsAck):
            self._journal.acknowledge(message.seq)
        self._callbacks.received(message)

    # --- the sending thread

    def _send_loop(self, connection: websocket.WebSocket, session: WorkerSession) -> None:
        try:
            while True:
                with self._cond:
                    while not self._work() and self._socket is connection:
                        self._cond.wait()
                    if self._has_reports and not self._frames:
                        self._cond.wait(GATHER_S)  # what happens in a moment goes into one message
                    if self._socket is not connection:
                        return
                    frames = list(self._frames)
                    self._frames.clear()
                    sample, self._sample = self._sample, None
                    if self._has_reports:
                        frames += session.reports_to_send(self._journal.waiting())
                        self._has_reports = False
                for frame in frames:
                    connection.send(frame)
                if sample is not None:
                    connection.send(sample)
        except (websocket.WebSocketException, OSError) as e:
            log.debug("sending ended: %s", e)
            self._cut()

    def _work(self) -> bool:
        return bool(self._frames) or self._sample is not None or self._has_reports

    def _cut(self) -> None:
        """End the present connection; both threads notice."""
        with self._cond:
            connection, self._socket, self._session = self._socket, None, None
            self._cond.notify_all()
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv; close would not


class _RefusedError(Exception):
    """The master will not have this worker; soon again is of no use."""


def _socket_url(master: str) -> str:
    parts = urlsplit(master)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws/worker", "", ""))


def _words(error: Exception) -> str:
    if isinstance(error, websocket.WebSocketBadStatusException):
        text = error.resp_body or b""
        said = text.decode(errors="replace").strip() if isinstance(text, bytes) else str(text)
        return f"the master answered {error.status_code}: {said[:300] or 'no reason given'}"
    if isinstance(error, GdosError):
        return error.detail
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens at the master's address"
    return str(error) or type(error).__name__
