"""/ws/console: topics with a snapshot, then changes; encoded once for all who look, at most one frame a second each.

Runs on the event loop. A reader that does not keep up loses frames, never order: each frame of a topic has a
sequence number, and one that is missed is answered by a new snapshot when the reader asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from gdos.master.services import views
from gdos.master.services.context import Context
from gdos.master.sockets import Socket
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as node_table
from gdos.master.store import tasks as task_table
from gdos.master.store.db import Page
from gdos.model.errors import BadInput, GdosError

TOPICS = {"nodes": "node", "instances": "instance", "tasks": "task"}
GAP_S = 1.0
SOON_S = 0.05
log = logging.getLogger(__name__)


class Ask(msgspec.Struct):
    """What a browser sends: {"subscribe": "nodes"} or {"unsubscribe": "nodes"}."""

    subscribe: str = ""
    unsubscribe: str = ""


class Browser:
    """One console socket."""

    def __init__(self, browsers: Browsers) -> None:
        self._browsers = browsers
        self.socket: Socket | None = None

    def opened(self, socket: Socket) -> None:
        self.socket = socket
        self.send(msgspec.json.encode({"hello": {"epoch": self._browsers.epoch, "topics": sorted(TOPICS)}}))

    def received(self, data: bytes) -> None:
        try:
            ask = msgspec.json.decode(data, type=Ask)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadInput(f"a message that cannot be read: {e}") from e
        topic = ask.subscribe or ask.unsubscribe
        if topic not in TOPICS:
            raise BadInput(f"topic: expected one of {', '.join(sorted(TOPICS))}, got {topic!r}")
        if ask.subscribe:
            self._browsers.subscribe(topic, self)
        else:
            self._browsers.readers[topic].discard(self)

    def closed(self) -> None:
        self.socket = None
        for readers in self._browsers.readers.values():
            readers.discard(self)

    def send(self, data: bytes) -> None:
        """Skipped while the reader's buffer is full."""
        if self.socket is not None and not self.socket.is_paused:
            self.socket.send(data)


class Browsers:
    """All console sockets and what has changed since their last frames."""

    def __init__(self, ctx: Context, soon: Callable[[float, Callable[[], None]], Any]) -> None:
        self.epoch = secrets.token_hex(4)
        self.readers: dict[str, set[Browser]] = {topic: set() for topic in TOPICS}
        self._ctx = ctx
        self._soon = soon
        self._changed: dict[str, set[str]] = {topic: set() for topic in TOPICS}
        self._sampled: dict[str, set[str]] = {topic: set() for topic in TOPICS}
        self._seq = dict.fromkeys(TOPICS, 0)
        self._is_armed = dict.fromkeys(TOPICS, False)
        self._pool = ThreadPoolExecutor(2, "browsers")
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent_at = dict.fromkeys(TOPICS, 0.0)

    def stop(self) -> None:
        """On the loop."""
        for task in self._tasks:
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def changed(self, kind: str, id_: str) -> None:
        """On the loop: something that may be looked at is not what it was."""
        topic = f"{kind}s"
        if self.readers.get(topic):
            self._changed[topic].add(id_)
            self._arm(topic)

    def live(self, node: str, instances: Iterable[str]) -> None:
        """On the loop: new samples. They go out without a look into the database."""
        if self.readers["nodes"]:
            self._sampled["nodes"].add(node)
            self._arm("nodes")
        if self.readers["instances"]:
            self._sampled["instances"].update(instances)
            self._arm("instances")

    def subscribe(self, topic: str, browser: Browser) -> None:
        """Snapshot now, changes from then on."""
        self._spawn(self._snapshot(topic, browser))

    def _arm(self, topic: str) -> None:
        if self._is_armed[topic]:
            return
        self._is_armed[topic] = True
        waited = asyncio.get_running_loop().time() - self._sent_at[topic]
        self._soon(max(SOON_S, GAP_S - waited), lambda: self._spawn(self._push(topic)))

    async def _snapshot(self, topic: str, browser: Browser) -> None:
        loop = asyncio.get_running_loop()
        seq = self._seq[topic]
        self.readers[topic].add(browser)
        items = await loop.run_in_executor(self._pool, self._read, topic, None)
        frame = {"topic": topic, "seq": seq, "epoch": self.epoch, "snapshot": items}
        browser.send(msgspec.json.encode(frame))

    async def _push(self, topic: str) -> None:
        self._is_armed[topic] = False
        loop = asyncio.get_running_loop()
        ids, self._changed[topic] = self._changed[topic], set()
        sampled, self._sampled[topic] = self._sampled[topic], set()
        if not self.readers[topic]:
            return
        self._sent_at[topic] = loop.time()
        items: list[views.View] = []
        try:
            if ids:
                items = await loop.run_in_executor(self._pool, self._read, topic, sorted(ids))
        except GdosError as e:
            log.warning("console: %s", e.detail)
            self._changed[topic] |= ids
            return
        self._seq[topic] += 1
        metrics = self._ctx.live.node_metrics if topic == "nodes" else self._ctx.live.instance_metrics
        frame = {
            "topic": topic,
            "seq": self._seq[topic],
            "epoch": self.epoch,
            "changes": items,
            "gone": sorted(ids - {item["id"] for item in items}),
            "metrics": {id_: metrics(id_) for id_ in sampled},
        }
        data = msgspec.json.encode(frame)
        for browser in list(self.readers[topic]):
            browser.send(data)

    def _read(self, topic: str, ids: list[str] | None) -> list[views.View]:
        """In the pool: the objects of a topic, all or those with these ids."""
        db = self._ctx.store.read()
        if topic == "nodes":
            found = node_table.page(db, Page(limit=100_000))[0] if ids is None else node_table.many(db, ids)
            return [views.node(self._ctx, r) for r in found]
        if topic == "instances":
            rows = instance_table.everything(db) if ids is None else instance_table.many(db, ids)
            return [views.instance(self._ctx, r) for r in rows]
        tasks = task_table.page(db, Page(limit=50))[0]
        if ids is not None:
            tasks = [r for r in (task_table.get(db, id_) for id_ in ids) if r is not None]
        steps = task_table.steps(db, [r["id"] for r in tasks])
        return [views.task(r, steps[r["id"]]) for r in tasks]

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("console: a task failed", exc_info=task.exception())
