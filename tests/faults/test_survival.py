"""The table "What must survive" of lifecycle.md, with real processes; random choices print their seed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gdos.model.errors import GdosError
from tests.kit.cluster import Cluster
from tests.kit.packages import make_package
from tests.kit.proxy import CuttingLink
from tests.kit.wait import wait_until

SERVICES = 20


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("GDOS_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed: GDOS_TEST_SEED={seed}")
    return random.Random(seed)


def pids(cluster: Cluster) -> dict[str, int]:
    return {i["name"]: i["pid"] for i in cluster.instances()}


def everything_runs(cluster: Cluster, count: int) -> bool:
    found = cluster.patient(cluster.instances)
    return len(found) == count and all(i["state"] == "running" and i["reachable"] for i in found)


def one_process_each(cluster: Cluster) -> None:
    """Never two processes for one instance. A `python3` that is a shim starts helpers that end by themselves."""

    def look() -> bool:
        marks = [cluster.mark_of(p) for p in cluster.services()]
        return len(marks) == len(set(marks))

    wait_until(look, "each instance to have one process", 5)


def test_twenty_services_survive_the_worker(cluster: Cluster, chance: random.Random) -> None:
    cluster.upload("sleeper", restart_delay=0.05)
    cluster.deploy("s/x", "sleeper:1.0.0", count=SERVICES)
    before = pids(cluster)
    started = {i["name"]: i["started_at"] for i in cluster.instances()}
    cluster.workers["w1"].kill()
    victim = chance.choice(sorted(before))
    os.kill(before[victim], signal.SIGKILL)
    assert all(psutil.pid_exists(pid) for name, pid in before.items() if name != victim)
    cluster.start_worker("w1")
    wait_until(lambda: everything_runs(cluster, SERVICES) and pids(cluster)[victim] != before[victim], "all to run")
    after = pids(cluster)
    assert {n: p for n, p in after.items() if n != victim} == {n: p for n, p in before.items() if n != victim}
    assert all(i["started_at"] == started[i["name"]] for i in cluster.instances() if i["name"] != victim)
    assert {i["name"]: i["restarts"] for i in cluster.instances()} == {n: int(n == victim) for n in before}
    one_process_each(cluster)
    reasons = [e["reason"] for e in cluster.client.get(f"/instances/{victim}/timeline")]
    assert any("ended while the worker was away" in r for r in reasons)
    os.kill(after["x-1"], signal.SIGKILL)  # what was found again is watched again
    wait_until(lambda: pids(cluster)["x-1"] not in (None, after["x-1"]), "the restart of a found process")


def test_the_worker_dies_again_and_again_while_it_deploys(cluster: Cluster, chance: random.Random) -> None:
    cluster.upload("sleeper")
    task = cluster.deploy("s/x", "sleeper:1.0.0", count=8, wait=False)
    for _ in range(6):
        threading.Event().wait(chance.uniform(0.0, 0.4))
        cluster.workers["w1"].kill()
        cluster.start_worker("w1", wait=False)
    wait_until(lambda: everything_runs(cluster, 8), "all to run")
    assert cluster.ended(task)["state"] == "succeeded"
    one_process_each(cluster)
    cluster.act("s/x", "destroy")
    assert cluster.services() == []


def test_the_master_dies_in_the_middle_of_deploys_and_batches(cluster: Cluster, chance: random.Random) -> None:
    for version in ("1", "2"):
        cluster.upload("sleeper", version)
    task = cluster.deploy("s/x", "sleeper:1", count=8, wait=False)
    tasks = [task]
    for action, more in (("restart", {}), ("upgrade", {"version": "2"}), ("stop", {}), ("start", {})):
        threading.Event().wait(chance.uniform(0.0, 0.5))
        cluster.kill_master()
        cluster.start_master()
        tasks.append(cluster.patient(lambda a=action, m=more: cluster.act("s/x", a, wait=False, **m)))
    ended = [cluster.ended(t) for t in tasks]
    assert ended[-1]["state"] == "succeeded", ended[-1]["error"]
    assert all(t["state"] in ("succeeded", "cancelled") for t in ended), [
        (t["kind"], t["state"], t["error"]) for t in ended
    ]
    wait_until(lambda: everything_runs(cluster, 8), "all to run")
    assert {i["version"] for i in cluster.instances()} == {"2"}
    one_process_each(cluster)


def test_services_do_not_notice_the_masters_death(cluster: Cluster) -> None:
    cluster.upload("sleeper", restart_delay=0.05)
    cluster.deploy("s/x", "sleeper:1.0.0", count=3)
    before = pids(cluster)
    cluster.kill_master()
    os.kill(before["x-2"], signal.SIGKILL)
    wait_until(lambda: len(cluster.services()) == 3, "the restart without a master")
    cluster.start_master()
    wait_until(lambda: everything_runs(cluster, 3) and pids(cluster)["x-2"] != before["x-2"], "the report of the gap")
    assert pids(cluster)["x-1"] == before["x-1"]
    kinds = [e["state"] for e in cluster.client.get("/instances/x-2/timeline")]
    assert kinds[:3] == ["running", "starting", "backoff"]


def test_the_worker_starts_alone_what_should_run(cluster: Cluster) -> None:
    """A rebooted node with the master away: the wanted list on its own disk is enough."""
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0", count=2)
    cluster.workers["w1"].kill()
    cluster.kill_master()
    cluster.kill_services()
    for path in cluster.work_dir().glob("instances/s/*/instance.json"):
        path.write_bytes(path.read_bytes().replace(_boot().encode(), b"00000000-0000-0000-0000-000000000000"))
    cluster.start_worker("w1", wait=False)
    wait_until(lambda: len(cluster.services()) == 2, "both to be started")
    cluster.start_master()
    wait_until(lambda: everything_runs(cluster, 2), "the report")
    assert all(i["restarts"] == 0 for i in cluster.instances())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def cut(make_cluster: Callable[..., Cluster]) -> Iterator[tuple[Cluster, CuttingLink]]:
    """A worker that reaches its master through a line that can be cut; offline after two seconds."""
    cluster = make_cluster("--offline-threshold", "2s", workers=0)
    link = CuttingLink(("127.0.0.1", cluster.port))
    cluster.start_worker("w1", master=link.url)
    yield cluster, link
    link.close()


@pytest.mark.parametrize("how", ["cut", "stalled"])
def test_a_link_that_is_away_for_longer_than_the_threshold(cut: tuple[Cluster, CuttingLink], how: str) -> None:
    cluster, link = cut
    cluster.upload("sleeper", restart_delay=0.05)
    cluster.deploy("s/x", "sleeper:1.0.0", count=2)
    before = pids(cluster)
    if how == "cut":
        link.cut()
    else:
        link.is_stalled = True
    cluster.wait_node("w1", "offline")
    found = cluster.instance("x-1")
    assert (found["state"], found["reachable"]) == ("running", False)  # unknown since then, not stopped
    assert "is offline; last report" in found["reason"]
    assert found["metrics"] is None
    stop = cluster.act("x-1", "stop", wait=False)
    assert stop["state"] == "queued"
    assert "waits for the node w1" in stop["steps"][0]["message"]
    os.kill(before["x-2"], signal.SIGKILL)  # restarts go on without the master
    wait_until(lambda: any(p.pid not in before.values() for p in cluster.services()), "the restart during the gap")
    link.heal()
    cluster.wait_node("w1", "online", 60)
    assert cluster.ended(stop)["state"] == "succeeded"
    wait_until(lambda: pids(cluster)["x-2"] not in (None, before["x-2"]), "the report of the gap")
    gap = next(e for e in cluster.client.get("/instances/x-2/timeline") if e["state"] == "backoff")
    assert gap["at"] < cluster.instance("x-2")["reported_at"]


@pytest.mark.parametrize("how", ["truncated", "corrupted"])
def test_bad_downloads_never_become_current(cut: tuple[Cluster, CuttingLink], tmp_path: Path, how: str) -> None:
    cluster, link = cut
    source = tmp_path / "big"
    path = make_package(tmp_path, "sleeper", name="big")
    import zipfile

    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("blob", random.Random(1).randbytes(3 << 20))
    assert not source.exists()
    cluster.upload_file(path)
    if how == "truncated":
        link.cut_after = 1 << 20
    else:
        link.corrupt_from = 1 << 20
    passed = link.passed
    task = cluster.deploy("s/x", "big:1.0.0")
    assert task["state"] == "succeeded"
    moved = link.passed - passed
    text = cluster.workers["w1"].text()
    if how == "truncated":
        assert "broke off at" in text
        assert moved < 5 << 20, f"{moved} bytes: it was not resumed"
    else:
        assert "thrown away, downloaded again" in text
    release = next(cluster.work_dir().glob("instances/s/*/current")).resolve()
    assert (release / "blob").read_bytes() == random.Random(1).randbytes(3 << 20)


def test_a_bad_cached_package_is_noticed(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    cached = next((cluster.work_dir() / "cache").glob("*.zip"))
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 0xFF
    cached.write_bytes(bytes(data))
    cluster.deploy("s/x")
    assert cluster.instance("x-2")["state"] == "running"
    assert cached.read_bytes() != bytes(data)


def test_a_copied_node_json_is_noticed_and_both_are_named(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    before = pids(cluster)
    shutil.copytree(cluster.work_dir("w1"), cluster.work_dir("copy"), symlinks=True)
    cluster._worker_args["copy"] = ["--master", cluster.url, "--port", "0", "--work-dir", str(cluster.work_dir("copy"))]
    clone = cluster.start_worker("copy", wait=False)
    wait_until(lambda: "Two workers share one node.json" in clone.text(), "the clone to be told")
    said = next(line for line in clone.text().splitlines() if "Two workers" in line)
    assert str(cluster.work_dir("w1")) in said
    assert str(cluster.work_dir("copy")) in said
    line = cluster.client.all("/audit", action="node.clone")[0]
    assert str(cluster.work_dir("w1")) in line["detail"]
    assert clone.stop() == 0
    assert pids(cluster) == before
    assert cluster.instance("x-1")["state"] == "running"
    one_process_each(cluster)


def test_two_workers_on_one_work_folder(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="another worker uses the work folder"):
        cluster._starts["w1"] = 5
        cluster.start_worker("w1", wait=False)


# --- uploads


def test_uploads_of_a_master_that_dies_are_whole_or_not_there(
    cluster: Cluster, tmp_path: Path, chance: random.Random
) -> None:
    acknowledged: set[str] = set()
    files = {}
    for number in range(12):
        path = make_package(tmp_path, "sleeper", f"1.{number}", name="many")
        files[f"1.{number}"] = path
    stop = threading.Event()

    def upload() -> None:
        for version, path in files.items():
            while not stop.is_set():
                try:
                    cluster.upload_file(path)
                    acknowledged.add(version)
                    break
                except GdosError:
                    stop.wait(0.05)

    thread = threading.Thread(target=upload)
    thread.start()
    for _ in range(4):
        stop.wait(chance.uniform(0.02, 0.3))
        cluster.kill_master()
        cluster.start_master()
    thread.join(60)
    stop.set()
    thread.join(10)
    assert acknowledged == set(files)
    for version, path in files.items():
        data = cluster.client.request("GET", f"/packages/many/{version}/download").data
        assert data == path.read_bytes()
    cluster.kill_master()
    cluster.start_master()
    assert list((cluster.folder / "master" / "packages" / "tmp").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    import socket

    path = make_package(tmp_path, "sleeper")
    data = path.read_bytes()
    head = (
        f"POST /api/v1/packages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {cluster.client._token}\r\n"
        f"Content-Type: application/zip\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", cluster.port)) as s:
        s.sendall(head.encode() + data[:-10])
    incoming = cluster.folder / "master" / "packages" / "tmp"
    wait_until(lambda: list(incoming.iterdir()) == [], "the half upload to be removed")
    assert cluster.client.all("/packages") == []


# --- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """Mounts a small tmpfs over a folder."""
    from tests.conftest import need

    need("root", os.geteuid() == 0, "mounting a small disk needs root")
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        code = os.system(f"mount -t tmpfs -o size={size} tmpfs {folder}")
        need("root", code == 0, "this machine does not let root mount a tmpfs")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        os.system(f"umount -l {folder}")


def fill(folder: Path) -> Path:
    """Use up all the space there is."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    return ballast


def test_a_full_disk_on_the_worker(
    make_cluster: Callable[..., Cluster], small_disk: Callable[[Path, str], None], tmp_path: Path
) -> None:
    cluster = make_cluster(workers=0)
    small_disk(cluster.work_dir(), "64m")
    cluster.start_worker("w1")
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    before = pids(cluster)
    cluster.upload("sleeper", "2.0.0", name="second")
    ballast = fill(cluster.work_dir())
    task = cluster.deploy("s/y", "second:2.0.0", wait=False)

    def said() -> str:
        return next((i["reason"] for i in cluster.instances() if i["name"] == "y-1"), "")

    wait_until(lambda: "free; " in said() or "is full" in said(), "the reason in words")
    assert "tried again in" in said()
    assert not list(cluster.work_dir().glob("instances/s/y-*/current"))
    os.kill(before["x-1"], signal.SIGKILL)  # what is there goes on, even now
    ballast.unlink()
    assert cluster.ended(task)["state"] == "succeeded"
    wait_until(lambda: everything_runs(cluster, 2), "both to run")
    one_process_each(cluster)
    cluster.workers["w1"].kill()
    cluster.start_worker("w1")
    wait_until(lambda: everything_runs(cluster, 2), "both to be found again")


def test_a_full_disk_on_the_package_store(
    make_cluster: Callable[..., Cluster], small_disk: Callable[[Path, str], None], tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "own")
    cluster.folder.mkdir()
    store = tmp_path / "store"
    small_disk(store, "48m")
    try:
        cluster.start_master("--upload-dir", str(store))
        ballast = store / "ballast"
        ballast.write_bytes(bytes(16 << 20))
        path = make_package(tmp_path, "sleeper")
        with pytest.raises(GdosError, match="must stay free: remove old versions or add space") as caught:
            cluster.upload_file(path)
        assert caught.value.code == "storage_full"
        assert list((store / "tmp").iterdir()) == []
        assert cluster.client.all("/packages") == []
        ballast.unlink()
        cluster.upload_file(path)
        assert len(cluster.client.all("/packages")) == 1
    finally:
        cluster.close()


def test_a_full_disk_under_the_database(
    make_cluster: Callable[..., Cluster], small_disk: Callable[[Path, str], None], tmp_path: Path
) -> None:
    cluster = make_cluster(workers=0)
    cluster.kill_master()
    small_disk(cluster.folder / "db", "24m")
    shutil.copy(cluster.folder / "master" / "gdos.db", cluster.folder / "db" / "gdos.db")
    cluster.start_master("--db-path", str(cluster.folder / "db" / "gdos.db"))
    cluster.start_worker("w1")
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    ballast = fill(cluster.folder / "db")

    def refused() -> GdosError | None:
        try:
            cluster.client.post("/systems", {"name": f"sys-{random.random()}"[:20], "description": "x" * 9000})
        except GdosError as e:
            return e
        return None

    error = wait_until(refused, "the database to be full")
    assert error.code == "storage_full"
    assert "make room on its disk" in error.detail
    assert cluster.instance("x-1")["state"] == "running"  # reading goes on
    ballast.unlink()
    assert wait_until(lambda: refused() is None, "writes to go on by themselves")
    cluster.act("x-1", "restart")
    assert cluster.client.request("GET", "/me").status == 200


def test_random_deaths_of_everything(make_cluster: Callable[..., Cluster], chance: random.Random) -> None:
    """A seeded schedule of kills over a small fleet; in the end what is wanted is what is."""
    cluster = make_cluster(workers=2)
    cluster.upload("sleeper", "1", restart_delay=0.05, restart_max_delay=0.2)
    cluster.upload("sleeper", "2", restart_delay=0.05, restart_max_delay=0.2)
    cluster.deploy("s/x", "sleeper:1", count=6)
    wishes: list[Callable[[], Any]] = [
        lambda: cluster.act("s/x", "restart", wait=False),
        lambda: cluster.act("s/x", "upgrade", wait=False, version="2"),
        lambda: cluster.act("s/x", "stop", wait=False),
        lambda: cluster.act("s/x", "start", wait=False),
    ]
    for _ in range(10):
        event = chance.choice(["master", "worker", "service", "wish", "wish"])
        if event == "master":
            cluster.kill_master()
            cluster.start_master()
        elif event == "worker":
            name = chance.choice(["w1", "w2"])
            cluster.workers[name].kill()
            cluster.start_worker(name, wait=False)
        elif event == "service" and cluster.services():
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(cluster.services()).kill()
        else:
            cluster.patient(chance.choice(wishes))
        threading.Event().wait(chance.uniform(0, 0.3))
    upgrade = cluster.patient(lambda: cluster.act("s/x", "upgrade", wait=False, version="2"))
    last = cluster.patient(lambda: cluster.act("s/x", "start", wait=False))
    assert cluster.ended(last)["state"] == "succeeded", cluster.ended(last)["error"]
    cluster.ended(upgrade)
    cluster.ended(cluster.patient(lambda: cluster.act("s/x", "upgrade", wait=False, version="2")))
    wait_until(lambda: everything_runs(cluster, 6), "all to run")
    assert {i["version"] for i in cluster.instances()} == {"2"}
    one_process_each(cluster)
    assert len(cluster.services()) == 6
