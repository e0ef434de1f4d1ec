"""A system of thirty instances with a diamond of dependencies on three workers: started, upgraded with a canary that
fails, rolled back, while master and workers are killed by a seeded schedule.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Self

import psutil
import pytest

from tests.component.test_orchestration import READY, lines, trace
from tests.faults.test_survival import chance, everything_runs, one_process_each
from tests.kit.cluster import Cluster
from tests.kit.wait import wait_until

__all__ = ["chance"]
COUNTS = {"db": 2, "api": 10, "jobs": 8, "web": 10}
AFTER: dict[str, list[str]] = {"db": [], "api": ["db"], "jobs": ["db"], "web": ["api", "jobs"]}


class Background:
    """Something that goes on beside the test. When it fails, the test does: nothing was proved then."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._failure is not None:
            raise AssertionError(f"{type(self).__name__} ended early") from self._failure

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as e:  # noqa: BLE001 - raised again in the test's own thread
            self._failure = e

    def _run(self) -> None:
        raise AssertionError("to be filled in")


class Watch(Background):
    """Looks all the time for two launches of one instance at the same moment."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.violations: list[str] = []
        self.looks = 0
        self._cluster = cluster

    def _run(self) -> None:
        while not self._is_over.is_set():
            found: dict[str, dict[str, psutil.Process]] = defaultdict(dict)
            for process in self._cluster.services():
                with contextlib.suppress(psutil.Error):
                    env = process.environ()  # empty, or not all of it, for a moment in the middle of an exec
                    if {"GDOS_INSTANCE_ID", "GDOS_LAUNCH"} <= env.keys():
                        found[env["GDOS_INSTANCE_ID"]][env["GDOS_LAUNCH"]] = process
            for id_, launches in found.items():
                alive = [n for n, p in launches.items() if _is_alive(p)]
                if len(alive) > 1:
                    self.violations.append(f"{id_}: launches {alive}")
            self.looks += 1


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Deaths(Background):
    """Kills and restarts master and workers at random moments, until it is told to end."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        super().__init__()
        self.count = 0
        self._cluster = cluster
        self._chance = chance

    def _run(self) -> None:
        while not self._is_over.wait(self._chance.uniform(0.5, 2.0)):
            victim = self._chance.choice(["master", "w1", "w2", "w3"])
            if victim == "master":
                self._cluster.kill_master()
                self._cluster.start_master()
            else:
                self._cluster.workers[victim].kill()
                self._cluster.start_worker(victim, wait=False)
            self.count += 1


@pytest.fixture
def shop(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = make_cluster(workers=3)
    for version in ("1", "2"):
        cluster.upload("late", version, **READY)
    cluster.upload("late", "3", **{**READY, "entrypoint": "sh", "args": ["-c", "sleep 0.2; exit 5"]})
    cluster.client.post("/systems", {"name": "s"})
    env = {"config": {"env": {"TRACE": str(trace(cluster)), "LATE": "0.1"}}}
    strategy = {"batch": "50%", "canary": 1, "min_healthy": 0.3}
    for name, after in AFTER.items():
        body = {"name": name, "package": "late", "version": "1", "depends_on": after, "strategy": strategy}
        cluster.client.post("/systems/s/modules", {**body, **env})
    for name, count in COUNTS.items():
        cluster.deploy(f"s/{name}", count=count, run=False)
    yield cluster


def act(cluster: Cluster, path: str, **body: Any) -> dict[str, Any]:
    """Asked until it is answered; then it is acknowledged, and must not be lost."""
    return dict(cluster.patient(lambda: cluster.client.post(f"/systems/s{path}/actions", body)))


def states(cluster: Cluster) -> set[tuple[str, str]]:
    return {(i["state"], i["version"]) for i in cluster.patient(cluster.instances)}


def test_a_system_of_thirty_survives_everything(shop: Cluster, chance: random.Random) -> None:
    cluster = shop
    with Watch(cluster) as watch, Deaths(cluster, chance) as deaths:
        task = cluster.ended(act(cluster, "", action="start"), 120)
        assert task["state"] == "succeeded", task["error"]
        assert len(task["steps"]) == 30
        order = lines(cluster, "begin")
        at = {name: [i for i, who in enumerate(order) if who.startswith(name)] for name in COUNTS}
        assert max(at["db"][: COUNTS["db"]]) < min(at["api"] + at["jobs"])
        assert max(at["api"][: COUNTS["api"]] + at["jobs"][: COUNTS["jobs"]]) < min(at["web"])
        wait_until(lambda: states(cluster) == {("running", "1")}, "all to run version 1")

        failed = cluster.ended(act(cluster, "/modules/api", action="upgrade", version="3"), 120)
        assert failed["state"] == "failed"
        reasons = ("exited with code 5", "ended while the worker was away")  # whoever saw its end, or nobody
        assert any(reason in failed["error"] for reason in reasons), failed["error"]
        assert sum(s["name"] == "upgrade" and s["state"] != "cancelled" for s in failed["steps"]) == 1  # the canary
        wait_until(lambda: states(cluster) == {("running", "1")}, "the canary to be back")

        good = cluster.ended(act(cluster, "", action="upgrade", version="2"), 240)
        assert good["state"] == "succeeded", good["error"]
        wait_until(lambda: states(cluster) == {("running", "2")}, "all to run version 2")

        back = cluster.ended(act(cluster, "", action="rollback"), 120)
        assert back["state"] == "succeeded", back["error"]
        wait_until(lambda: states(cluster) == {("running", "1")}, "all to be back")

        stop = cluster.ended(act(cluster, "", action="stop"), 120)
        assert stop["state"] == "succeeded", stop["error"]
        start = cluster.ended(act(cluster, "", action="start"), 120)
        assert start["state"] == "succeeded", start["error"]
    print(f"{deaths.count} deaths, {watch.looks} looks")
    assert deaths.count >= 5
    assert watch.looks >= 50
    assert watch.violations == []
    wait_until(lambda: everything_runs(cluster, 30), "what is wanted to be what is")
    one_process_each(cluster)
    assert len(cluster.services()) == 30
    kinds = [(t["kind"], t["state"]) for t in reversed(cluster.client.all("/tasks")) if t["kind"] != "deploy"]
    assert kinds == [
        ("start", "succeeded"), ("upgrade", "failed"), ("upgrade", "succeeded"), ("rollback", "succeeded"),
        ("stop", "succeeded"), ("start", "succeeded"),
    ]  # fmt: skip
