"""The agent under any history of wishes, exits, cuts and deaths, on the scripted driver and a clock of the test's own.

Invariants: never two services of one instance; whatever happened, in the end what is wanted is what is; every report
has its number, and none is lost before it is acknowledged.
"""

from __future__ import annotations

import hashlib
import queue
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gdos.model.states import State
from gdos.model.values import Exit
from gdos.model.wanted import Release, Wanted
from gdos.wire import messages as m
from gdos.worker.agent import Agent
from gdos.worker.disk import WorkDir
from gdos.worker.drivers.fake import FakeDriver, Script
from gdos.worker.executor.around import Around
from gdos.worker.executor.fetch import Cache, Source
from gdos.worker.executor.launch import NodeFacts
from gdos.worker.executor.rotate import Policy
from gdos.worker.journal import Journal
from gdos.worker.loop import OwnerLoop
from gdos.worker.platform import System
from tests.kit.packages import make_package

IDS = ["i-00000001", "i-00000002"]


class ManualLoop(OwnerLoop):
    """Events run when the test says so, timers by the test's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def settle(self) -> None:
        """Everything that can happen now."""
        while True:
            self._fire_due()
            try:
                event = self._events.get(block=False)
            except queue.Empty:
                return
            event()

    def pass_time(self, seconds: float) -> None:
        end = self.time + seconds
        while self._timers and self._timers[0].at <= end:
            self.time = max(self.time, self._timers[0].at)
            self.settle()
        self.time = end
        self.settle()


class Node:
    """One life of a worker process over a work folder and services that outlive it."""

    def __init__(self, folder: Path, driver: FakeDriver) -> None:
        self.loop = ManualLoop()
        self.work = WorkDir(folder)
        self.journal = Journal(folder / "reports.jsonl")
        self.sent: list[m.Message] = []
        self.system = System(folder)
        around = Around(
            loop=self.loop,
            system=self.system,
            driver=driver,
            adopter=lambda manifest: driver,
            cache=Cache(self.work.cache, 1 << 30),
            source=lambda: Source("http://127.0.0.1:1", ""),
            node=lambda: NodeFacts("n", "127.0.0.1", {}),
            run=self.run,
            report=self.journal.add,
            wall=lambda: int(self.loop.time * 1000),
            boot="fake",
            log_rotation=Policy(compress=False),
            allow=frozenset(["deploy", "adopt"]),
        )
        self.agent = Agent(self.loop, self.work, around, self.sent.append)
        self.agent.load()
        self.agent.supervise()
        self.loop.settle()

    def run(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """The pool: at once, but the result comes as an event."""
        try:
            result, error = work(), None
        except Exception as e:  # noqa: BLE001 - handed to `done`, as the real pool does
            result, error = None, e
        self.loop.post(lambda: done(result, error))

    def die(self) -> None:
        self.agent.close()
        self.journal.close()
        self.work.close()
        self.system.close()


class AgentMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gdos-model-"))
        self.driver = FakeDriver()
        self.node = Node(self.folder / "work", self.driver)
        self.wanted: dict[str, Wanted] = {}
        self.revision = 0
        self.serials = dict.fromkeys(IDS, (0, 0))
        self.seen: dict[int, m.Report] = {}
        self.acked = 0
        self.releases = []
        for version in ("1", "2"):
            path = make_package(self.folder, "sleeper", version, restart_delay=1.0, restart_max_retries=3)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copy(path, self.node.work.cache / f"{sha256}.zip")
            self.releases.append(Release("sleeper", version, sha256, path.stat().st_size))

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.node.die()
            shutil.rmtree(self.folder, ignore_errors=True)

    def tell(self, items: list[Wanted], full: bool = False) -> None:
        self.node.agent.on_wanted(m.WantedList(revision=self.revision, items=items, full=full))
        self.node.loop.settle()

    @rule(
        id_=st.sampled_from(IDS),
        run=st.booleans(),
        release=st.integers(0, 1),
        what=st.sampled_from("srn"),
        is_staging=st.booleans(),
    )
    def wish(self, id_: str, run: bool, release: int, what: str, is_staging: bool) -> None:
        self.revision += 1
        start, restart = self.serials[id_]
        self.serials[id_] = (start + (what != "n"), restart + (what == "r"))
        self.wanted[id_] = Wanted(
            id=id_, name=id_, system="s", module="m", revision=self.revision, run=run, release=self.releases[release],
            start_serial=self.serials[id_][0], restart_serial=self.serials[id_][1],
            staged=self.releases[1 - release] if is_staging else None,
        )  # fmt: skip
        self.tell([self.wanted[id_]])

    @rule(id_=st.sampled_from(IDS))
    def destroy(self, id_: str) -> None:
        if id_ in self.wanted:
            self.revision += 1
            import msgspec

            changes = {"present": False, "run": False, "revision": self.revision}
            self.wanted[id_] = msgspec.structs.replace(self.wanted[id_], **changes)
            self.tell([self.wanted[id_]])

    @rule(id_=st.sampled_from(IDS), code=st.sampled_from([0, 1, 3]))
    def service_ends(self, id_: str, code: int) -> None:
        for handle in self.driver.running(self.mark(id_)):
            self.driver.end(handle, Exit(code=code))
        self.node.loop.settle()

    @rule(id_=st.sampled_from(IDS), stubborn=st.booleans(), broken=st.booleans())
    def script(self, id_: str, stubborn: bool, broken: bool) -> None:
        self.driver.scripts[self.mark(id_)] = Script(ignores_stop=stubborn, start_error="broken" if broken else "")

    @rule(seconds=st.sampled_from([0.1, 1.5, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.node.loop.pass_time(seconds)

    @rule()
    def worker_dies_and_is_back(self) -> None:
        self.node.die()
        self.node = Node(self.folder / "work", self.driver)

    @rule()
    def link_comes_back(self) -> None:
        """After a cut the master says everything again."""
        self.tell(list(self.wanted.values()), full=True)

    @rule(share=st.floats(0, 1))
    def master_acknowledges(self, share: float) -> None:
        waiting = self.node.journal.waiting()
        self.seen.update((r.seq, r) for r in waiting)
        if waiting:
            self.acked = max(self.acked, waiting[int((len(waiting) - 1) * share)].seq)
            self.node.journal.acknowledge(self.acked)

    def mark(self, id_: str) -> str:
        want = Wanted(id=id_, name=id_, system="s", module="m", revision=0, release=self.releases[0])
        return self.node.work.folder(want).mark

    @invariant()
    def never_two_services(self) -> None:
        if hasattr(self, "node"):
            for id_ in IDS:
                assert len(self.driver.running(self.mark(id_))) <= 1

    @invariant()
    def no_report_is_lost_before_it_is_acknowledged(self) -> None:
        """One that was acknowledged may come again after a death; the master skips it by its number."""
        if hasattr(self, "node"):
            numbers = [r.seq for r in self.node.journal.waiting() if r.seq > self.acked]
            assert numbers == list(range(self.acked + 1, self.node.journal.seq + 1))

    @rule()
    def in_the_end_it_is_as_wanted(self) -> None:
        """Everything works again, time passes, somebody asks once more: then all is as wanted."""
        self.driver.scripts.clear()
        for id_, want in list(self.wanted.items()):
            if want.present:
                self.wish(id_, want.run, self.releases.index(want.release), "s", is_staging=False)
        self.link_comes_back()
        self.node.loop.pass_time(200.0)
        for id_, want in self.wanted.items():
            running = self.driver.running(self.mark(id_))
            instance = self.node.agent.instances.get(id_)
            if not want.present:
                assert instance is None
                assert running == []
                continue
            assert instance is not None
            assert instance.record.current == want.release.sha256
            assert instance.record.state is (State.RUNNING if want.run else State.STOPPED), instance.record
            assert len(running) == int(want.run)
            last = [r for r in self.node.journal.waiting() if r.instance == id_][-1:]
            assert all(r.is_settled and r.revision == want.revision for r in last)


TestAgent = AgentMachine.TestCase
TestAgent.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
