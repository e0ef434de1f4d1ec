"""A TCP proxy between a worker and its master that can stall, cut, corrupt and cut short: the network's bad days."""

from __future__ import annotations

import asyncio
import threading


class CuttingLink:
    """Listens on a free loopback port, passes on to `target`. All switches may be set from the test's thread."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.is_down = False  # refuses new connections
        self.is_stalled = False  # takes bytes and passes none on
        self.cut_after: int | None = None  # bytes from the target after which a connection is cut
        self.corrupt_from: int | None = None  # bytes from the target after which one byte is turned
        self.passed = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self.is_down = True
        self._loop.call_soon_threadsafe(self._abort_all)

    def heal(self) -> None:
        self.is_down = False
        self.is_stalled = False
        self.cut_after = self.corrupt_from = None

    def close(self) -> None:
        self.is_down = True
        self._loop.call_soon_threadsafe(self._abort_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.transport.abort()
            return
        try:
            other_reader, other = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other}
        try:
            await asyncio.gather(self._pump(reader, other, False), self._pump(other_reader, writer, True))
        finally:
            for one in (writer, other):
                self._writers.discard(one)
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        done = 0
        try:
            while data := await reader.read(65536):
                while self.is_stalled:
                    await asyncio.sleep(0.02)
                if is_answer and self.corrupt_from is not None and done + len(data) > self.corrupt_from >= done:
                    at = self.corrupt_from - done
                    data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
                    self.corrupt_from = None
                done += len(data)
                self.passed += len(data)
                if is_answer and self.cut_after is not None and done > self.cut_after:
                    writer.write(data[: self.cut_after - done])
                    await writer.drain()
                    self.cut_after = None
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort() if is_answer else writer.close()
