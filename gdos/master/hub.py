"""All worker links, on the event loop: wanted state out, reports and samples in, questions and answers.

Nothing here waits for the disk: writes go to the writer thread, reads to a small pool, results come back to the loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from gdos import __version__
from gdos.master.rings import Rings
from gdos.master.services import instances, nodes, reports
from gdos.master.services.context import Context
from gdos.master.sockets import Socket
from gdos.model.errors import GdosError, NotFound, NotSignedIn, TimedOut, Unavailable, all_errors
from gdos.wire import codec
from gdos.wire import messages as m
from gdos.wire.session import MasterSession

log = logging.getLogger(__name__)
FLUSH_S = 0.02
WAKE_S = 0.002
CLONE_S = 3.0
RETRY_S = 2.0
REPORTS_WAITING_MAX = 100_000


@dataclass(slots=True)
class Asked:
    future: asyncio.Future[Any]
    node: str


class Link:
    """One worker's connection."""

    def __init__(self, hub: Hub, node: str, now: float) -> None:
        self.node = node
        self.session = MasterSession(now)
        self.socket: Socket | None = None
        self.is_ready = False  # welcome was said
        self.instances: set[str] = set()  # that this node may speak of
        self._hub = hub

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes) -> None:
        message = self.session.receive(data, self._hub.now())
        if isinstance(message, m.Sample):
            self._hub.on_sample(self, message)
        elif isinstance(message, m.Reports):
            self._hub.on_reports(self, message)
        elif isinstance(message, m.Answer):
            self._hub.on_answer(self, message)
        elif isinstance(message, m.Hello):
            self._hub.on_hello(self, message)

    def closed(self) -> None:
        self.socket = None
        self._hub.on_closed(self)

    def send(self, message: m.Message) -> None:
        if self.socket is not None:
            self.socket.send(codec.encode(message))

    def where(self) -> str:
        """The machine and folder, for people."""
        hello = self.session.hello
        address = self.socket.address if self.socket else "?"
        return f"{hello.hostname} ({address}, {hello.work_dir})" if hello else address


class Hub:
    """See the module. `threshold_s`: a node that is silent for longer is offline."""

    def __init__(
        self, ctx: Context, rings: Rings, threshold_s: float, live: Callable[[str, Iterable[str]], None]
    ) -> None:
        self.now = time.monotonic
        self.threshold_s = threshold_s
        self.links: dict[str, Link] = {}
        self.samples = 0
        self._ctx = ctx
        self._rings = rings
        self._live = live  # (node, instances) have new samples; called on the loop
        self._credentials: dict[str, str] = {}
        self._seen: dict[str, tuple[float, int]] = {}  # node -> (monotonic, milliseconds) of the last message
        self._online: set[str] = set()
        self._dirty: set[str] = set()
        self._waiting: list[tuple[str, str, m.Report]] = []  # node, epoch, report
        self._asked: dict[int, Asked] = {}
        self._numbers = itertools.count(1)
        self._flush_at: asyncio.TimerHandle | None = None
        self._is_storing = False
        self._pool = ThreadPoolExecutor(16, "hub")
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, online: list[str], credentials: dict[str, str]) -> None:
        """On the loop. Nodes that were online get the whole threshold to come back before they count as lost."""
        self._loop = asyncio.get_running_loop()
        self._credentials = credentials
        wall = self._ctx.now()
        for node in online:
            self._online.add(node)
            self._seen[node] = (self.now(), wall)
        self._spawn(self._watch())

    def stop(self) -> None:
        """On the loop: no more work; links are closed by the server."""
        for task in self._tasks:
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- for other threads

    def wake(self, node: str) -> None:
        """What is wanted on a node has changed. Any thread."""
        self._post(self._wake, node)

    def forget(self, node: str) -> None:
        """A node was removed: its credential and its link end. Any thread."""
        self._post(self._forget, node)

    def ask(self, node: str, request: m.Request, timeout_s: float) -> Any:
        """A node's answer. Not on the loop: it waits. Raises Unavailable, TimedOut, and what the worker says."""
        if self._loop is None:
            raise Unavailable("the master is starting")
        future = asyncio.run_coroutine_threadsafe(self._ask(node, request, timeout_s), self._loop)
        return future.result(timeout_s + 5)

    def last_seen(self, node: str) -> int | None:
        """Milliseconds since 1970. Any thread."""
        seen = self._seen.get(node)
        return seen[1] if seen else None

    def _post(self, fn: Callable[..., Any], *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(fn, *args)

    # --- connecting

    async def admit(self, hashed: str) -> Link:
        """The endpoint for a worker with that credential (its hash). Raises NotSignedIn."""
        node = self._credentials.get(hashed)
        if node is None:  # it may have joined a moment ago
            loop = asyncio.get_running_loop()
            node = await loop.run_in_executor(self._pool, nodes.by_credential, self._ctx, hashed)
            if node is None:
                raise NotSignedIn("this node's credential is not known here, or it was revoked; join again")
            self._credentials[hashed] = node
        return Link(self, node, self.now())

    def on_hello(self, link: Link, hello: m.Hello) -> None:
        if hello.protocol > m.PROTOCOL:
            reason = (
                f"this master speaks protocol {m.PROTOCOL} (gdos {__version__}), the worker {hello.protocol}"
                f" (gdos {hello.version}): update the master first"
            )
            self._refuse(link, "protocol_too_new", reason, is_final=True)
            return
        self._spawn(self._connect(link, hello))

    async def _connect(self, link: Link, hello: m.Hello) -> None:
        old = self.links.get(link.node)
        if old is not None and old is not link and not await self._replace(old, link, hello):
            return
        self.links[link.node] = link
        address = link.socket.address if link.socket else ""
        loop = asyncio.get_running_loop()
        try:
            row = await loop.run_in_executor(self._pool, nodes.connected, self._ctx, link.node, hello, address)
        except NotFound as e:
            self._refuse(link, "unknown_node", e.detail, is_final=True)
            return
        except GdosError as e:
            log.warning("node %s: %s", link.node, e.detail)
            if link.socket is not None:
                link.socket.close(1013, "the master cannot store that; try again")
            return
        if link.socket is None or self.links.get(link.node) is not link:
            return
        acked = row["report_seq"] if row["report_epoch"] == hello.epoch else 0
        link.send(
            m.Welcome(
                protocol=m.PROTOCOL,
                version=__version__,
                node=link.node,
                name=row["name"],
                now=self._ctx.now(),
                acked=acked,
            )
        )
        link.is_ready = True
        self._saw(link.node)
        self._online.add(link.node)
        log.info("node %s connected from %s", row["name"], link.where())
        await self._send_wanted(link)

    async def _replace(self, old: Link, new: Link, hello: m.Hello) -> bool:
        """Whether `new` may take the place of `old`: yes when it is the same process, or the old one is dead."""
        same = old.session.hello is not None and old.session.hello.run == hello.run
        if not same and old.socket is not None:
            since = old.session.heard_at
            old.socket.ping()
            deadline = self.now() + CLONE_S
            while self.now() < deadline and old.socket is not None and old.session.heard_at <= since:
                await asyncio.sleep(0.05)
            if old.socket is not None and old.session.heard_at > since:
                reason = (
                    f"the node {new.node} is connected from {old.where()}; this is {new.where()}. Two workers share one"
                    " node.json: give this one a --work-dir of its own and a join token, or stop the other"
                )
                log.warning("%s", reason)
                self._refuse(new, "clone", reason)
                await asyncio.get_running_loop().run_in_executor(
                    self._pool, nodes.note_clone, self._ctx, new.node, old.where(), new.where()
                )
                return False
        if old.socket is not None:
            old.socket.close(4000, "replaced by a newer connection of the same worker")
        return new.socket is not None

    def _refuse(self, link: Link, code: str, reason: str, *, is_final: bool = False) -> None:
        link.send(m.Refused(code=code, reason=reason, is_final=is_final))
        if link.socket is not None:
            link.socket.close(4001, code)

    def on_closed(self, link: Link) -> None:
        if self.links.get(link.node) is link:
            del self.links[link.node]
        for number, asked in list(self._asked.items()):
            if asked.node == link.node and link.is_ready and not asked.future.done():
                asked.future.set_exception(Unavailable("the node's connection broke off; try again"))
                del self._asked[number]

    def _forget(self, node: str) -> None:
        self._credentials = {h: n for h, n in self._credentials.items() if n != node}
        self._seen.pop(node, None)
        self._online.discard(node)
        self._rings.forget("node", node)
        link = self.links.get(node)
        if link is not None:
            self._refuse(link, "removed", "this node was removed from the master", is_final=True)

    # --- wanted state

    def _wake(self, node: str) -> None:
        if not self._dirty and self._loop is not None:
            self._loop.call_later(WAKE_S, self._send_dirty)
        self._dirty.add(node)

    def _send_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for node in dirty:
            link = self.links.get(node)
            if link is not None and link.is_ready:
                self._spawn(self._send_wanted(link))

    async def _send_wanted(self, link: Link) -> None:
        """All that is wanted at the first time, then what is newer than what was sent."""
        since = link.session.sent_revision
        loop = asyncio.get_running_loop()
        try:
            newest, found = await loop.run_in_executor(self._pool, instances.wanted_since, self._ctx, link.node, since)
        except GdosError as e:
            log.warning("node %s: %s; tried again", link.node, e.detail)
            loop.call_later(RETRY_S, self._wake, link.node)
            return
        if link.socket is None or newest <= link.session.sent_revision:
            return
        link.instances.update(want.id for want in found)
        for frame in link.session.wanted_list(newest, found, full=since < 0):
            link.socket.send(frame)

    # --- what comes in

    def _saw(self, node: str) -> None:
        self._seen[node] = (self.now(), self._ctx.now())

    def on_sample(self, link: Link, sample: m.Sample) -> None:
        if not link.is_ready:
            return
        self.samples += 1
        self._saw(link.node)
        at = self._ctx.now() // 1000
        self._rings.append("node", link.node, at, sample.host)
        own = sample.instances.keys() & link.instances
        for id_ in own:
            self._rings.append("instance", id_, at, sample.instances[id_])
        self._live(link.node, own)

    def on_reports(self, link: Link, message: m.Reports) -> None:
        hello = link.session.hello
        if hello is None or not link.is_ready:
            return
        self._saw(link.node)
        if len(self._waiting) + len(message.items) > REPORTS_WAITING_MAX:
            if link.socket is not None:
                link.socket.close(1013, "the master cannot keep up; try again")
            return
        self._waiting.extend((link.node, hello.epoch, item) for item in message.items)
        self._arm()

    def on_answer(self, link: Link, answer: m.Answer) -> None:
        asked = self._asked.get(answer.id)
        if asked is None or asked.node != link.node or asked.future.done():
            return
        if answer.error:
            kind = all_errors().get(answer.code, GdosError)
            asked.future.set_exception(kind(answer.error))
        else:
            asked.future.set_result(answer.data)

    async def _ask(self, node: str, request: m.Request, timeout_s: float) -> Any:
        link = self.links.get(node)
        if link is None or not link.is_ready:
            raise Unavailable("the node is not connected")
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = Asked(future, node)
        link.send(msgspec.structs.replace(request, id=number))
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as e:
            raise TimedOut(f"the node did not answer within {timeout_s:.0f} s") from e
        finally:
            self._asked.pop(number, None)

    # --- one write for what came in a moment

    def _arm(self) -> None:
        if self._flush_at is None and self._loop is not None:
            self._flush_at = self._loop.call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        if self._waiting and not self._is_storing:
            waiting, self._waiting = self._waiting, []
            self._spawn(self._store(waiting))

    async def _store(self, waiting: list[tuple[str, str, m.Report]]) -> None:
        """Store and acknowledge. When the disk refuses, nothing is acknowledged and the same is tried again."""
        batches: dict[tuple[str, str], list[m.Report]] = {}
        for node, epoch, report in waiting:
            batches.setdefault((node, epoch), []).append(report)
        work = [reports.Batch(node, epoch, items) for (node, epoch), items in batches.items()]
        loop = asyncio.get_running_loop()
        self._is_storing = True
        try:
            done = await loop.run_in_executor(self._pool, reports.store, self._ctx, work)
        except GdosError as e:
            log.error("reports of %d nodes cannot be stored: %s; tried again", len(work), e.detail)
            self._waiting = waiting + self._waiting
            loop.call_later(RETRY_S, self._arm)
            return
        finally:
            self._is_storing = False
        for node, seq in done.acked.items():
            link = self.links.get(node)
            if link is not None and link.is_ready:
                link.send(m.ReportsAck(seq=seq))
        if self._waiting:
            self._arm()

    # --- lost nodes

    async def _watch(self) -> None:
        """Once a second: nodes that were silent for longer than the threshold are offline, until they speak again."""
        while True:
            await asyncio.sleep(min(1.0, self.threshold_s / 4))
            late = self.now() - self.threshold_s
            lost = {n: self._seen[n][1] for n in self._online if self._seen[n][0] < late}
            back = {n: self._seen[n][1] for n in self.links.keys() - self._online if self._is_heard(n, late)}
            for node in lost:
                log.warning("node %s is offline: silent for %.0f s", node, self.threshold_s)
            try:
                await self._turn("offline", lost)
                await self._turn("online", back)
            except GdosError as e:
                log.error("the nodes' states cannot be stored: %s; tried again", e.detail)

    def _is_heard(self, node: str, late: float) -> bool:
        """A connection that was only slow carries on without a new hello."""
        return self.links[node].is_ready and self._seen.get(node, (late, 0))[0] > late

    async def _turn(self, state: str, found: dict[str, int]) -> None:
        if found:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._pool, nodes.set_state, self._ctx, state, found)
            self._online = self._online | found.keys() if state == "online" else self._online - found.keys()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("hub: a task failed", exc_info=task.exception())
