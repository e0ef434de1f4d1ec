"""The worker, wired by hand: builds, starts and stops all parts. The only file that knows them all."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from gdos import __version__, logs
from gdos.model.errors import GdosError, NotBuilt, Unreachable
from gdos.wire import messages as m
from gdos.worker import facts, joining
from gdos.worker.agent import Agent, run_in, wall_ms
from gdos.worker.config import WorkerConfig
from gdos.worker.disk import WorkDir
from gdos.worker.drivers.adopt import AdoptDriver
from gdos.worker.drivers.spawn import SpawnDriver
from gdos.worker.executor.around import Around
from gdos.worker.executor.fetch import Cache, Source
from gdos.worker.executor.launch import NodeFacts
from gdos.worker.journal import Journal
from gdos.worker.link import Callbacks, Link
from gdos.worker.local import LocalPort, exposition
from gdos.worker.loop import OwnerLoop
from gdos.worker.platform import System
from gdos.worker.sampling.host import HostSampler
from gdos.worker.sampling.trees import TreeSampler

log = logging.getLogger(__name__)
STEPS = 8
SAMPLE_S = 1.0


class Worker:
    """One worker. Making it takes the work folder and finds who this node is; `run` works until a signal."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.run_id = os.urandom(8).hex()
        self.work = WorkDir(config.work_dir)
        self.facts = facts.collect(self.work.root)
        self.node = self.work.read_node()
        self.loop = OwnerLoop()
        self.system = System(self.work.root)
        self.driver = SpawnDriver(self.system)
        self.journal = Journal(self.work.root / "reports.jsonl")
        self._pool = ThreadPoolExecutor(STEPS, "step")
        self._ip = facts.address()
        self._labels = dict(config.labels)
        self._connected = (False, "not tried yet")
        self._last: tuple[list[float], dict[str, list[float]]] = ([], {})
        self._stopping = threading.Event()
        self.link = Link(
            config.master, self.journal, Callbacks(self._hello, self._received, self._link_state, self._credential)
        )
        around = Around(
            loop=self.loop,
            system=self.system,
            driver=self.driver,
            adopter=lambda manifest: AdoptDriver(self.system, self.driver, manifest),
            cache=Cache(self.work.cache, config.cache_size),
            source=lambda: Source(config.master, self._credential()),
            node=self._node_facts,
            run=run_in(self._pool, self.loop),
            report=self._report,
            wall=wall_ms,
            boot=self.system.boot(),
            log_rotation=config.log_rotation,
            allow=frozenset(config.allow),
        )
        self.agent = Agent(self.loop, self.work, around, self.link.send)
        self._local: LocalPort | None = None
        self.fatal: Exception | None = None

    # --- what the parts ask for

    def _node_facts(self) -> NodeFacts:
        name = self.node.name if self.node else str(self.facts.get("hostname", "node"))
        return NodeFacts(name, self._ip, self._labels)

    def _credential(self) -> str:
        return self.node.credential if self.node else ""

    def _hello(self) -> m.Hello:
        return m.Hello(
            protocol=m.PROTOCOL,
            version=__version__,
            run=self.run_id,
            epoch=self.journal.epoch,
            revision=self.agent.revision,
            work_dir=str(self.work.root),
            hostname=str(self.facts.get("hostname", "")),
            facts=self.facts,
            labels=self.config.labels,
            allow=self.config.allow,
        )

    def _report(self, report: m.Report) -> None:
        self.journal.add(report)
        self.agent.refresh_roots()
        self.link.reports_waiting()

    def _received(self, message: m.FromMaster) -> None:
        """On the link's thread: pass on."""
        if isinstance(message, m.WantedList):
            self.loop.post(lambda: self.agent.on_wanted(message))
        elif isinstance(message, m.Welcome):
            self.loop.post(lambda: self._welcomed(message))
        elif isinstance(message, m.Request):
            self.loop.post(lambda: self.agent.on_request(message))

    def _link_state(self, is_up: bool, reason: str) -> None:
        """On the link's thread."""
        if self._connected != (is_up, reason):
            if is_up:
                log.info("connected to %s", self.config.master)
            else:
                log.warning("no connection to %s: %s", self.config.master, reason)
        self._connected = (is_up, reason)

    def _welcomed(self, welcome: m.Welcome) -> None:
        if self.node is not None and (self.node.name != welcome.name or not self._is_at_home()):
            self.node = msgspec.structs.replace(self.node, name=welcome.name, place=joining.place(self.work))
            try:
                self.work.write_node(self.node)
            except OSError as e:
                log.warning("node.json cannot be written: %s", e)
        self.agent.supervise()

    def _is_at_home(self) -> bool:
        """Whether node.json was written here. A copy does nothing before the master has taken it."""
        return self.node is not None and self.node.place == joining.place(self.work)

    # --- life

    def run(self) -> None:
        """Until SIGTERM or Ctrl-C. Services run on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        joining.check(self.work, self._wish())
        if self.config.port:
            self._local = LocalPort(self.config.host, self.config.port, self._health, self._metrics)
        self.agent.load()
        if self._is_at_home():
            self.agent.supervise()
        elif self.node is not None:
            log.warning("node.json was written elsewhere: nothing is done before the master has answered")
        threading.Thread(target=self._sample_for_ever, name="sampler", daemon=True).start()
        threading.Thread(target=self._connect, name="joiner", daemon=True).start()
        port = self._local.port if self._local else 0
        logs.ready("worker", master=self.config.master, work_dir=self.work.root, port=port, pid=os.getpid())
        try:
            self.loop.run()
        finally:
            self._close()

    def _stop(self) -> None:
        self._stopping.set()
        self.loop.stop()

    def _close(self) -> None:
        self.link.stop()
        self.agent.close()
        if self._local is not None:
            self._local.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.system.close()
        self.journal.close()
        self.work.close()

    def _connect(self) -> None:
        """Join where that is still to be done, then keep the link up."""
        tries = 0
        while self.node is None and not self._stopping.is_set():
            try:
                self.node = joining.join(self.work, self._wish())
            except Unreachable as e:
                tries += 1
                self._link_state(False, e.detail)
                self._stopping.wait(random.uniform(0.2, min(0.5 * 2.0 ** min(tries, 6), 15.0)))
            except (GdosError, OSError) as e:
                log.error("%s", e.detail if isinstance(e, GdosError) else f"node.json cannot be written: {e}")
                self.fatal = e
                self._stop()
                return
        if not self._stopping.is_set():
            self.link.start()

    def _wish(self) -> joining.Wish:
        c = self.config
        return joining.Wish(c.master, c.join_token, c.name, self.facts)

    def _sample_for_ever(self) -> None:
        host, trees = HostSampler(self.work.root), TreeSampler(self.system.members)
        due = time.monotonic()
        while not self._stopping.is_set():
            due = max(due + SAMPLE_S, time.monotonic())
            self._stopping.wait(due - time.monotonic())
            try:
                self._last = (host.sample(), trees.sample(self.agent.roots))
            except OSError as e:
                log.warning("no sample: %s", e)
                continue
            self.link.send_sample(m.Sample(at=wall_ms(), host=self._last[0], instances=self._last[1]))

    def _health(self) -> dict[str, Any]:
        is_up, reason = self._connected
        return {
            "status": "ok",
            "version": __version__,
            "node": self.node.node if self.node else None,
            "name": self.node.name if self.node else None,
            "connected": is_up,
            "reason": reason,
            "instances": len(self.agent.instances),
        }

    def _metrics(self) -> str:
        host, trees = self._last
        names = {i.record.id: i.record.name for i in list(self.agent.instances.values())}
        return exposition(host, {id_: (names.get(id_, id_), values) for id_, values in trees.items()})


def serve(config: WorkerConfig) -> None:
    """Run a worker until a signal. Raises GdosError when it cannot begin, or may not join."""
    logs.set_up(config.log_format, config.log_level)
    for warning in config.resolved.warnings:
        log.warning("%s", warning)
    if config.autostart is not None:
        raise NotBuilt("start at boot (--autostart) is not there yet: write a systemd unit that runs this command line")
    worker = Worker(config)
    worker.run()
    if worker.fatal is not None:
        raise worker.fatal
