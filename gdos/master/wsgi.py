"""ASGI to WSGI: Bottle in a thread pool, answers without a hop for each piece where there is one piece only.

Transfers (package uploads and downloads) and log readers, who wait, have pools of their own, so that slow ones never
stop the API. A client that vanishes or stalls shows as an error in `wsgi.input.read`, within READ_S.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
READ_S = 30.0
WRITE_S = 60.0
POOLS = {"api": 16, "transfer": 8, "wait": 64}


class Gone(OSError):
    """The client broke off, or sent and took nothing for too long."""


class _Body(io.RawIOBase):
    """The request's body, pulled piece by piece from the loop; ends exactly where Content-Length says."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive) -> None:
        self._loop = loop
        self._receive = receive
        self._waiting = b""
        self._more = True

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all of them unless the body ends before; b'' at the end."""
        wanted = sys.maxsize if size is None or size < 0 else size
        parts: list[bytes] = []
        have = 0
        while have < wanted and (self._waiting or self._more):
            if not self._waiting:
                self._pull()
            part = self._waiting[: wanted - have]
            self._waiting = self._waiting[len(part) :]
            have += len(part)
            parts.append(part)
        return b"".join(parts)

    def _pull(self) -> None:
        future = asyncio.run_coroutine_threadsafe(_awaited(self._receive()), self._loop)
        try:
            message = future.result(READ_S)
        except FutureTimeout as e:
            future.cancel()
            raise Gone(f"nothing came for {READ_S:.0f} s") from e
        if message["type"] == "http.disconnect":
            self._more = False
            raise Gone("the client broke off")
        self._waiting = message.get("body", b"")
        self._more = message.get("more_body", False)


async def _awaited(what: Awaitable[Any]) -> Any:
    return await what


class Bridge:
    """The ASGI application around a WSGI one. `pool_of(method, path)` names one of POOLS."""

    def __init__(self, app: Any, pool_of: Callable[[str, str], str], base_path: str = "") -> None:
        self._app = app
        self._pool_of = pool_of
        self._base = base_path
        self._pools = {name: ThreadPoolExecutor(size, name) for name, size in POOLS.items()}

    def close(self) -> None:
        """End the pools without waiting for a stalled transfer."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if self._base:
            if path != self._base and not path.startswith(self._base + "/"):
                await _plain(send, 404, f"this master lives at {self._base}/\n")
                return
            path = path[len(self._base) :] or "/"
        loop = asyncio.get_running_loop()
        environ = _environ(scope, path, self._base, loop, receive)
        pool = self._pools[self._pool_of(scope["method"], path)]
        try:
            head, body = await loop.run_in_executor(pool, self._run, environ, loop, send)
        except Gone:
            return  # uvicorn closes the connection of a request without an answer
        if head is not None:
            if all(name != b"content-length" for name, _ in head["headers"]):
                head["headers"].append((b"content-length", b"%d" % len(body)))
            await send(head)
        await send({"type": "http.response.body", "body": body})

    def _run(self, environ: dict[str, Any], loop: asyncio.AbstractEventLoop, send: Send) -> tuple[Any, bytes]:
        """In a pool thread. A list is answered by the loop in one go, an iterator piece by piece from here."""
        head: list[dict[str, Any]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            raw = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in headers]
            head[:] = [{"type": "http.response.start", "status": int(status[:3]), "headers": raw}]

        result: Iterable[bytes] = self._app(environ, start)
        try:
            if isinstance(result, (list, tuple)):
                return head[0], b"".join(result)
            first = True
            for piece in result:
                if first:
                    _put(send(head[0]), loop)
                    first = False
                _put(send({"type": "http.response.body", "body": piece, "more_body": True}), loop)
            return (head[0] if first else None), b""
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()


def _put(what: Awaitable[None], loop: asyncio.AbstractEventLoop) -> None:
    """Send from a pool thread, waiting for the client to take it."""
    future = asyncio.run_coroutine_threadsafe(_awaited(what), loop)
    try:
        future.result(WRITE_S)
    except FutureTimeout as e:
        future.cancel()
        raise Gone(f"the client took nothing for {WRITE_S:.0f} s") from e


async def _plain(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def _environ(scope: Scope, path: str, base: str, loop: asyncio.AbstractEventLoop, receive: Receive) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": base,
        "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    has_body = False
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin1").upper().replace("-", "_")
        value = raw_value.decode("latin1")
        if name == "CONTENT_LENGTH":
            environ[name] = value
            has_body = value != "0"
        elif name == "CONTENT_TYPE":
            environ[name] = value
        else:
            has_body = has_body or name == "TRANSFER_ENCODING"
            key = f"HTTP_{name}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["wsgi.input"] = _Body(loop, receive) if has_body else io.BytesIO()
    return environ
