"""The measurements of bench/README.md, each against its yardstick in the same run.

python bench/run.py master --workers 1000 --instances 20
python bench/run.py worker --instances 50
python bench/run.py package --workers 5 --megabytes 500
python bench/run.py startup
python bench/run.py restart
python bench/run.py commands
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.kit.cluster import Cluster  # noqa: E402
from tests.kit.packages import make_package  # noqa: E402
from tests.kit.wait import wait_until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
GDOS = [sys.executable, str(ROOT / "dist" / "gdos")]


@contextlib.contextmanager
def cluster(*master_args: str) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="gdos-bench-"))
    made = Cluster(folder, GDOS)
    made.env.pop("PYTHONPATH")
    made.start_master(*master_args)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def cpu_s(pid: int) -> float:
    rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(rest[11]) + int(rest[12])) / TICK


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_mb(pid: int) -> float:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def bench_master(workers: int, instances: int, seconds: float) -> None:
    with cluster() as c:
        assert c.master is not None
        total = seconds + 75
        load = subprocess.Popen(
            [sys.executable, str(ROOT / "bench" / "loadgen.py"), c.url, c.client._token, str(workers), str(instances),
             str(total)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert load.stdout is not None
        assert load.stdin is not None
        nodes = json.loads(load.stdout.readline())["nodes"]
        c.kill_master()
        make_instances(c.folder / "master" / "gdos.db", nodes, instances)
        c.start_master()
        load.stdin.write("go\n")
        load.stdin.flush()
        line = json.loads(load.stdout.readline())
        say(what="connect", workers=workers, seconds=line["seconds"])
        time.sleep(10)
        pid = c.master.pid
        before, began = cpu_s(pid), time.monotonic()
        taken: list[float] = []
        while time.monotonic() - began < seconds:
            at = time.monotonic()
            c.client.get("/nodes", limit=1)
            taken.append((time.monotonic() - at) * 1000)
            time.sleep(0.1)
        used = cpu_s(pid) - before
        share = used / (time.monotonic() - began)
        say(what="steady", workers=workers, instances=instances, core_percent=round(share * 100, 1),
            rss_mb=round(rss_mb(pid)), rest_p50_ms=round(statistics.median(taken), 1),
            rest_p99_ms=round(percentile(taken, 0.99), 1))  # fmt: skip
        c.kill_master()
        c.start_master()
        at = time.monotonic()
        line = json.loads(load.stdout.readline())
        say(what="after a restart", **line, since_ready=round(time.monotonic() - at, 1))
        load.send_signal(signal.SIGTERM)
        load.wait()
        load.stdin.close()
        load.stdout.close()


def make_instances(path: Path, nodes: list[str], each: int) -> None:
    """Rows as a deploy makes them, at once: the load is of running instances, not of deploys."""
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO systems VALUES ('s-1', 's', '', 0)")
        db.execute(
            "INSERT INTO modules (id, system, name, package, version, created_at) VALUES ('m-1','s-1','m','p','1',0)"
        )
        db.executemany(
            "INSERT INTO instances (id, name, system, module, node, package, version, sha256, size, revision, state,"
            " pid, created_at) VALUES (?, ?, 's-1', 'm-1', ?, 'p', '1', 'x', 1, ?, 'running', 1, 0)",
            [(f"i-{n:06d}-{k}", f"m-{n}-{k}", node, k + 1) for n, node in enumerate(nodes) for k in range(each)],
        )
        db.execute("UPDATE nodes SET wanted_revision = ?", (each,))


def bench_worker(counts: list[int], seconds: float) -> None:
    with cluster() as c:
        c.start_worker("w1")
        c.upload("sleeper", entrypoint="sleep", args=["100000"])
        have = 0
        for count in counts:
            if count > have:
                c.deploy("s/x", "" if have else "sleeper:1.0.0", count=count - have)
                have = count
            time.sleep(5)
            pid = c.workers["w1"].pid
            before, began = cpu_s(pid), time.monotonic()
            time.sleep(seconds)
            share = (cpu_s(pid) - before) / (time.monotonic() - began)
            say(what="worker", instances=count, core_percent=round(share * 100, 2), rss_mb=round(rss_mb(pid), 1))


def bench_package(workers: int, megabytes: int) -> None:
    with cluster() as c:
        assert c.master is not None
        for number in range(workers):
            c.start_worker(f"w{number + 1}")
        path = make_package(c.folder / "packages", "sleeper", name="big")
        chance = random.Random(1)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for number in range(megabytes // 10):
                archive.writestr(f"blob{number}", chance.randbytes(9 << 20) + bytes(1 << 20))
        size = path.stat().st_size / 1e6
        at = time.monotonic()
        with open(path, "rb") as body:
            c.client.request("POST", "/packages", body=body, headers={"Content-Type": "application/zip"}, timeout=600.0)
        upload = time.monotonic() - at
        yardstick = copy_and_hash(path, c.folder)
        say(what="upload", megabytes=round(size), seconds=round(upload, 2), cp_sha256sum=round(yardstick, 2),
            speed_ratio=round(yardstick / upload, 2))  # fmt: skip
        c.plan("s/x", "big:1.0.0")
        before = cpu_s(c.master.pid), sum(cpu_s(p.pid) for p in c.workers.values())
        at = time.monotonic()
        task = c.client.post("/instances", {"module": "s/x", "count": workers})
        c.done(task, 600)
        ours = time.monotonic() - at
        cpu = cpu_s(c.master.pid) - before[0], sum(cpu_s(p.pid) for p in c.workers.values()) - before[1]
        theirs, their_cpu = shell(c, workers)
        say(what="package", workers=workers, megabytes=round(size), seconds=round(ours, 2), shell=round(theirs, 2),
            ratio=round(ours / theirs, 2), cpu_master=round(cpu[0], 2), cpu_workers=round(cpu[1], 2),
            cpu_shell=round(their_cpu, 2), master_peak_mb=round(peak_mb(c.master.pid)))  # fmt: skip


def copy_and_hash(path: Path, folder: Path) -> float:
    at = time.monotonic()
    subprocess.run(["sh", "-c", f"cp {path} {folder}/copy && sha256sum {folder}/copy && sync {folder}/copy"],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    took = time.monotonic() - at
    (folder / "copy").unlink()
    return took


def shell(c: Cluster, workers: int) -> tuple[float, float]:
    """curl + sha256sum + unzip from the same master, as many at once."""
    url = f"{c.url}/api/v1/packages/big/1.0.0/download"
    script = (
        "mkdir -p $1 && cd $1 && curl -sS -H 'Authorization: Bearer '$2 -o p.zip $3"
        " && sha256sum p.zip >/dev/null && unzip -q p.zip"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    at = time.monotonic()
    running = [
        subprocess.Popen(["sh", "-c", script, "x", str(c.folder / f"shell{n}"), c.client._token, url])
        for n in range(workers)
    ]
    for process in running:
        assert process.wait() == 0
    took = time.monotonic() - at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def child_ms(command: list[str], env: dict[str, str], times: int) -> float:
    """Median CPU milliseconds of a command."""
    found = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=env, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
    return statistics.median(found)


def bench_startup() -> None:
    with cluster() as c:
        env = {**c.env, "GDOS_MASTER": c.url, "GDOS_TOKEN": c.client._token, "XDG_CACHE_HOME": str(c.folder / "cache")}
        python = str(Path(sys._base_executable))  # type: ignore[attr-defined]
        gdos = [python, GDOS[1]]
        first = child_ms([*gdos, "--version"], {**env, "SHIV_ROOT": str(c.folder / "first")}, 1)
        child_ms([*gdos, "--version"], env, 1)
        say(what="startup", archive_mb=round(Path(GDOS[1]).stat().st_size / 1e6, 2), first_run_cpu_ms=round(first),
            python_alone=round(child_ms([python, "-c", "pass"], env, 20)),
            version=round(child_ms([*gdos, "--version"], env, 20)),
            pack_help=round(child_ms([*gdos, "pack", "--help"], env, 20)),
            ps=round(child_ms([*gdos, "ps"], env, 20)))  # fmt: skip


def bench_restart(times: int) -> None:
    """From the SIGKILL of a service to its successor being a process, restart_delay 0."""
    with cluster() as c:
        c.start_worker("w1")
        c.upload("sleeper", entrypoint="sleep", args=["100000"], restart_delay=0)
        c.deploy("s/x", "sleeper:1.0.0")
        record = next(c.work_dir("w1").glob("instances/s/*/instance.json"))
        found = []
        for _ in range(times):
            pid = json.loads(record.read_bytes())["handle"]["process"]["pid"]
            time.sleep(0.3)
            at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while not any(_is_new(c.workers["w1"].pid, pid)):
                time.sleep(0.0003)
            found.append((time.monotonic() - at) * 1000)
            wait_until(lambda p=pid: _pid(record) not in (None, p), "the record")
        say(what="restart after SIGKILL", median_ms=round(statistics.median(found), 2), worst_ms=round(max(found), 2))


def _pid(record: Path) -> int | None:
    handle = json.loads(record.read_bytes())["handle"]
    return handle["process"]["pid"] if handle else None


def _is_new(worker: int, old: int) -> Iterator[bool]:
    for task in Path(f"/proc/{worker}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                if int(child) != old and "sleep" in Path(f"/proc/{child}/comm").read_text():
                    yield True


def bench_commands(times: int) -> None:
    """From the click (the request) to the process being there, and back to the answer of the API."""
    with cluster() as c:
        c.start_worker("w1")
        c.upload("sleeper", entrypoint="sleep", args=["100000"])
        c.deploy("s/x", "sleeper:1.0.0")
        to_running, to_seen_dead = [], []
        for _ in range(times):
            c.act("x-1", "stop")
            at = time.monotonic()
            c.client.post("/instances/x-1/actions", {"action": "start"})
            while c.instance("x-1")["state"] != "running":
                pass
            to_running.append((time.monotonic() - at) * 1000)
            pid = c.instance("x-1")["pid"]
            at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while c.instance("x-1")["state"] == "running" and c.instance("x-1")["pid"] == pid:
                pass
            to_seen_dead.append((time.monotonic() - at) * 1000)
        say(what="commands", start_to_running_ms=round(statistics.median(to_running)),
            death_to_api_ms=round(statistics.median(to_seen_dead)))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["master", "worker", "package", "startup", "restart", "commands"])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--instances", type=int, nargs="+", default=[20])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    say(what="machine", cores=os.cpu_count(), load=os.getloadavg()[0], python=sys.version.split()[0])
    if asked.what == "master":
        bench_master(asked.workers, asked.instances[0], asked.seconds)
    elif asked.what == "worker":
        bench_worker(asked.instances, asked.seconds)
    elif asked.what == "package":
        bench_package(asked.workers, asked.megabytes)
    elif asked.what == "startup":
        bench_startup()
    elif asked.what == "restart":
        bench_restart(20)
    else:
        bench_commands(20)


if __name__ == "__main__":
    main()
