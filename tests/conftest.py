"""Fixtures for all tests, and the rule of what CI must have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.cluster import Cluster

REQUIRED = set(filter(None, os.environ.get("GDOS_TEST_REQUIRE", "").split(",")))
DEAD = ("GDOS_MASTER", "GDOS_TOKEN", "GDOS_JOIN_TOKEN", "GDOS_ADMIN_PASSWORD", "NO_COLOR")


def need(what: str, is_there: bool, why: str) -> None:
    """Skip for something this machine lacks; where CI is meant to have it, fail instead."""
    if is_there:
        return
    if what in REQUIRED:
        pytest.fail(f"{what} is required here and missing: {why}")
    pytest.skip(f"{what} is missing: {why}")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in DEAD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def make_cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """A factory; everything is ended afterwards, and a failing test prints all logs."""
    made: list[Cluster] = []

    def make(*master_args: str, workers: int = 1, command: list[str] | None = None) -> Cluster:
        folder = tmp_path / f"cluster{len(made)}"
        folder.mkdir()
        cluster = Cluster(folder, command)
        made.append(cluster)
        cluster.start_master(*master_args)
        for number in range(workers):
            cluster.start_worker(f"w{number + 1}")
        return cluster

    yield make
    failed = getattr(request.node, "failed", False)
    for cluster in made:
        if failed:
            print(cluster.logs())
        cluster.close()
        shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A master and one worker."""
    return make_cluster()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
