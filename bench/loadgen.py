"""Simulated workers that speak the real protocol: join, hello, one sample a second, acknowledgements.

    python bench/loadgen.py URL ADMIN_TOKEN WORKERS INSTANCES SECONDS

It joins, prints the nodes, and connects after a line on standard input; instance K of node N has the id i-N-K.

One process, one event loop, frames built once: the generator must not be the bottleneck. Prints JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from gdos.cli.client import Client
from gdos.wire import codec
from gdos.wire import messages as m

HOST = [0.25, 1.5, 0.5, 8e9, 16e9, 0.0, 0.4, 1e11, 1e5, 2e5, 3e5, 4e5, 200.0]
INSTANCE = [0.05, 5e7, 100.0, 200.0, 4.0, 12.0, 1.0]


def masked(data: bytes) -> bytes:
    """One text frame with a zero mask, which leaves the payload as it is."""
    size = len(data)
    head = b"\x81" + (bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + struct.pack(">H", size))
    return head + b"\0\0\0\0" + data


class Peer(asyncio.Protocol):
    """One worker."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.number = number
        self.transport: asyncio.Transport | None = None
        self.is_welcome = False
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        credential = self.fleet.credentials[self.number]
        transport.write(
            b"GET /ws/worker HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Authorization: Bearer " + credential.encode() + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if not self.is_welcome:
            self.buffer += data
            if b"101 Switching" in self.buffer and not hasattr(self, "said"):
                self.said = True
                self.transport.write(masked(codec.encode(self.fleet.hello(self.number))))
            if b'"t":"Welcome"' in self.buffer:
                self.is_welcome = True
                self.fleet.welcome += 1
        if b"\x89\x00" in data:
            self.transport.write(b"\x8a\x80\0\0\0\0")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fleet.welcome -= self.is_welcome
        self.transport = None
        if not self.fleet.is_over:
            self.is_welcome, self.buffer = False, b""
            self.__dict__.pop("said", None)
            self.fleet.loop.call_later(random.uniform(0, 5), self.fleet.dial, self)


class Fleet:
    def __init__(self, url: str, token: str, workers: int, instances: int) -> None:
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.count = workers
        self.is_over = False
        self.welcome = 0
        self.sent = 0
        self.loop = asyncio.get_running_loop()
        ids = [[f"i-{n:06d}-{k}" for k in range(instances)] for n in range(workers)]
        self.frames = [
            masked(codec.encode(m.Sample(at=1, host=HOST, instances=dict.fromkeys(own, INSTANCE)))) for own in ids
        ]
        self.credentials = self.join(url, token)
        self.peers = [Peer(self, n) for n in range(workers)]

    def join(self, url: str, token: str) -> list[str]:
        """Real joins with a real token."""
        join = Client(url, token).post("/join-tokens", {"name": "load", "ttl": "1h"})["token"]
        client = Client(url, join)
        client._pool.connection_pool_kw["maxsize"] = 8
        with ThreadPoolExecutor(8) as pool:
            body = {"facts": {"hostname": "load", "os": "linux", "arch": "amd64"}}
            joined = list(pool.map(lambda _: client.post("/join", body), range(self.count)))
        self.nodes = [j["node"] for j in joined]
        return [j["credential"] for j in joined]

    def hello(self, number: int) -> m.Hello:
        facts = {"hostname": f"load-{number}", "os": "linux", "arch": "amd64"}
        return m.Hello(
            protocol=1, version="load", run=f"r{number}", epoch="e", revision=-1, work_dir="/load",
            hostname=f"load-{number}", facts=facts,
        )  # fmt: skip

    def dial(self, peer: Peer) -> None:
        async def connect() -> None:
            try:
                await self.loop.create_connection(lambda: peer, *self.address)
            except OSError:
                self.loop.call_later(random.uniform(0, 5), self.dial, peer)

        task = self.loop.create_task(connect())
        self.tasks = getattr(self, "tasks", set()) | {task}
        task.add_done_callback(lambda t: self.tasks.discard(t))

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        for i, peer in enumerate(self.peers):
            self.dial(peer)
            if i % 100 == 99:
                await asyncio.sleep(0.02)
        while self.welcome < self.count:
            await asyncio.sleep(0.05)
        print(json.dumps({"event": "connected", "seconds": round(time.monotonic() - began, 2)}), flush=True)
        slices = 20
        end = time.monotonic() + seconds
        lost_at = 0.0
        while time.monotonic() < end:
            for part in range(slices):
                due = time.monotonic() + 1 / slices
                for peer in self.peers[part::slices]:
                    if peer.transport is not None and peer.is_welcome:
                        peer.transport.write(self.frames[peer.number])
                        self.sent += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self.welcome < self.count // 2 and not lost_at:
                    lost_at = time.monotonic()
                if lost_at and self.welcome == self.count:
                    took = round(time.monotonic() - lost_at, 1)
                    print(json.dumps({"event": "all back", "seconds": took}), flush=True)
                    lost_at = 0.0
        print(json.dumps({"event": "done", "sent": self.sent, "connected": self.welcome}), flush=True)
        self.is_over = True
        for peer in self.peers:
            if peer.transport is not None:
                peer.transport.abort()


async def main() -> None:
    url, token, workers, instances, seconds = sys.argv[1:6]
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fleet = Fleet(url, token, int(workers), int(instances))
    print(json.dumps({"event": "joined", "pid": os.getpid(), "nodes": fleet.nodes}), flush=True)
    sys.stdin.readline()  # the caller makes the instances of these nodes, then says go
    await fleet.run(float(seconds))


if __name__ == "__main__":
    asyncio.run(main())
