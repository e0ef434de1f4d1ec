"""GDOS against supervisor, circus and PM2, on the same children in the same run.

python bench/peers/run.py [--children 200] [--only gdos supervisor circus pm2] [--rounds 3]

Installs the peers by name from PyPI and npm into bench/peers/.cache (not into the project). Measures: from the command
to all children alive, from the command to all gone, from SIGKILL of a child to its successor, and CPU and memory of
the supervisor itself while nothing happens. Children only sleep.
"""

from __future__ import annotations

import abc
import argparse
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(__file__).resolve().parent / ".cache"
sys.path.insert(0, str(ROOT))

TICK = os.sysconf("SC_CLK_TCK")
IDLE_S = 20.0


def processes(word: str) -> dict[int, bytes]:
    """PID -> command line of everything whose command line has `word`."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line and line.split(b"\0")[0].rpartition(b"/")[2] == b"sleep":
                found[int(name)] = line
    return found


def successor(pids: list[int], known: set[int], word: str) -> bool:
    """Whether a supervisor has a child that it did not have, and that has become what it is to be. A cheap look."""
    found = set()
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                found |= set(map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()))
            except OSError:
                continue
    return any(_is_one(p, word) for p in found - known)


def _is_one(pid: int, word: str) -> bool:
    try:
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wait(look: Callable[[], bool], what: str, limit_s: float = 120.0) -> float:
    """Seconds until it is so; the look itself must be cheap."""
    began = time.perf_counter()
    while not look():
        if time.perf_counter() - began > limit_s:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.0005)
    return time.perf_counter() - began


def cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(rest[11]) + int(rest[12])
    return total / TICK


def rss_mb(pids: list[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * resource.getpagesize() / 1e6


class Peer(abc.ABC):
    """One supervisor. `word` marks its children: the number of seconds that they sleep."""

    name = ""
    word = ""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    @abc.abstractmethod
    def pids(self) -> list[int]:
        """Of the supervisor itself."""

    @abc.abstractmethod
    def begin(self) -> None:
        """Bring it up with all children described and none started."""

    @abc.abstractmethod
    def start(self) -> None:
        """Ask for all; does not wait."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Ask for the end of all; does not wait."""

    @abc.abstractmethod
    def end(self) -> None:
        """Take it down."""

    def alive(self) -> dict[int, bytes]:
        return processes(self.word)


class Gdos(Peer):
    name, word = "gdos", "100001"

    def begin(self) -> None:
        from gdos.pack.build import build
        from tests.kit.cluster import Cluster

        self.cluster = Cluster(self.folder, [sys.executable, str(ROOT / "dist" / "gdos")])
        self.cluster.env.pop("PYTHONPATH")
        self.cluster.start_master()
        self.cluster.start_worker("w1")
        source = self.folder / "src"
        source.mkdir()
        manifest = {"name": "sleep", "version": "1", "entrypoint": "sleep", "args": [self.word], "restart_delay": 0}
        (source / "service.json").write_text(json.dumps(manifest))
        self.cluster.upload_file(build(source, self.folder / "sleep.zip").path)
        self.cluster.deploy("bench/sleep", "sleep:1", count=self.count, run=False)
        cluster = self.cluster
        wait(lambda: all(i["state"] == "stopped" for i in cluster.instances()), "the deploy")

    def pids(self) -> list[int]:
        return [self.cluster.workers["w1"].pid]

    def start(self) -> None:
        self.cluster.act("bench/sleep", "start", wait=False)

    def stop(self) -> None:
        self.cluster.act("bench/sleep", "stop", wait=False)

    def end(self) -> None:
        self.cluster.close()


class Supervisor(Peer):
    name, word = "supervisor", "100002"

    def begin(self) -> None:
        self.bin = python_peer("supervisor")
        programs = "".join(
            f"[program:p{n}]\ncommand=sleep {self.word}\nautostart=false\nautorestart=true\nstartsecs=0\n"
            for n in range(self.count)
        )
        head = (
            f"[unix_http_server]\nfile={self.folder}/s.sock\n[supervisord]\nlogfile={self.folder}/s.log\n"
            f"pidfile={self.folder}/s.pid\nminfds=4096\nchildlogdir={self.folder}\n[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{self.folder}/s.sock\n"
        )
        self.conf = self.folder / "s.conf"
        self.conf.write_text(head + programs)
        self.daemon = subprocess.Popen([self.bin / "supervisord", "-n", "-c", self.conf], stdout=subprocess.DEVNULL)
        wait(lambda: (self.folder / "s.sock").exists(), "supervisord")

    def pids(self) -> list[int]:
        return [self.daemon.pid]

    def ctl(self, *args: str) -> None:
        subprocess.run([self.bin / "supervisorctl", "-c", self.conf, *args], stdout=subprocess.DEVNULL, check=False)

    def start(self) -> None:
        self.later = subprocess.Popen(
            [self.bin / "supervisorctl", "-c", self.conf, "start", "all"], stdout=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self.later.wait()
        self.later = subprocess.Popen(
            [self.bin / "supervisorctl", "-c", self.conf, "stop", "all"], stdout=subprocess.DEVNULL
        )

    def end(self) -> None:
        self.later.wait()
        self.daemon.terminate()
        self.daemon.wait()


class Circus(Peer):
    name, word = "circus", "100003"

    def begin(self) -> None:
        self.bin = python_peer("circus")
        self.port = free_port()
        text = (
            f"[circus]\nendpoint = tcp://127.0.0.1:{self.port}\npubsub_endpoint = tcp://127.0.0.1:{free_port()}\n"
            f"check_delay = 5\n[watcher:sleepers]\ncmd = sleep {self.word}\nnumprocesses = {self.count}\n"
            "autostart = false\ncopy_env = true\n"
        )
        self.conf = self.folder / "circus.ini"
        self.conf.write_text(text)
        self.daemon = subprocess.Popen(
            [self.bin / "circusd", self.conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait(self._answers, "circusd")

    def _answers(self) -> bool:
        return self.ctl("status").returncode == 0

    def ctl(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        argv = [self.bin / "circusctl", "--endpoint", f"tcp://127.0.0.1:{self.port}", *args]
        return subprocess.run(argv, capture_output=True, check=False)

    def pids(self) -> list[int]:
        return [self.daemon.pid]

    def _later(self, word: str) -> None:
        argv = [self.bin / "circusctl", "--endpoint", f"tcp://127.0.0.1:{self.port}", word, "sleepers"]
        self.later = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        self._later("start")

    def stop(self) -> None:
        self.later.wait()
        self._later("stop")

    def end(self) -> None:
        self.later.wait()
        self.daemon.terminate()
        try:
            self.daemon.wait(15)
        except subprocess.TimeoutExpired:  # it does not always end by a signal
            self.daemon.kill()
            self.daemon.wait()


class Pm2(Peer):
    name, word = "pm2", "100004"

    def begin(self) -> None:
        folder = CACHE / "pm2"
        self.bin = folder / "node_modules" / ".bin" / "pm2"
        if not self.bin.exists():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--prefix", folder, "pm2"], check=True)
        self.env = {**os.environ, "PM2_HOME": str(self.folder / "pm2"), "PM2_DISABLE_VERSION_CHECK": "true"}
        sleep = shutil.which("sleep")
        apps = [
            {"name": f"p{n}", "script": sleep, "args": self.word, "interpreter": "none", "exec_mode": "fork"}
            for n in range(self.count)
        ]
        self.conf = self.folder / "ecosystem.json"
        self.conf.write_text(json.dumps({"apps": apps}))
        self.ctl("ping")

    def ctl(self, *args: str) -> None:
        subprocess.run(
            [self.bin, *args], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )

    def pids(self) -> list[int]:
        return [int((self.folder / "pm2" / "pm2.pid").read_text())]

    def start(self) -> None:
        argv = [self.bin, "start", self.conf]
        self.later = subprocess.Popen(argv, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self.later.wait()
        argv = [self.bin, "stop", "all"]
        self.later = subprocess.Popen(argv, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        self.later.wait()
        self.ctl("kill")


def python_peer(name: str) -> Path:
    """An environment of its own with that package; returns its folder of programs."""
    folder = CACHE / name
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        more = ["setuptools<81"] if name == "supervisor" else []
        subprocess.run([folder / "bin" / "pip", "install", "-q", name, *more], check=True)
        (folder / ".ready").touch()
    return folder / "bin"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def measure(peer: Peer, rounds: int) -> dict[str, Any]:
    """Medians over `rounds`; times in seconds and milliseconds, CPU of the supervisor alone."""
    peer.begin()
    starts, stops, start_cpu, again = [], [], [], []
    try:
        for _ in range(rounds):
            before, began = cpu_s(peer.pids()), time.perf_counter()
            peer.start()
            wait(lambda: len(peer.alive()) == peer.count, f"{peer.name} to start all")
            starts.append(time.perf_counter() - began)
            time.sleep(2)  # not measured: what a supervisor still does behind its starts
            start_cpu.append(cpu_s(peer.pids()) - before)
            if len(starts) == rounds:
                break
            began = time.perf_counter()
            peer.stop()
            wait(lambda: not peer.alive(), f"{peer.name} to stop all")
            stops.append(time.perf_counter() - began)
            time.sleep(1)
        before = cpu_s(peer.pids())
        time.sleep(IDLE_S)
        idle = (cpu_s(peer.pids()) - before) / IDLE_S
        memory = rss_mb(peer.pids())
        for _ in range(11):
            known, own = set(peer.alive()), peer.pids()
            began = time.perf_counter()
            os.kill(min(known), signal.SIGKILL)
            wait(lambda own=own, known=known: successor(own, known, peer.word), f"{peer.name} to restart one", 30)  # type: ignore[misc]
            again.append((time.perf_counter() - began) * 1000)
            time.sleep(0.5)
        began = time.perf_counter()
        peer.stop()
        wait(lambda: not peer.alive(), f"{peer.name} to stop all")
        stops.append(time.perf_counter() - began)
    finally:
        peer.end()
    return {
        "what": peer.name,
        "children": peer.count,
        "start_s": round(statistics.median(starts), 2),
        "start_cpu_s": round(statistics.median(start_cpu), 2),
        "stop_s": round(statistics.median(stops), 2),
        "restart_ms": round(statistics.median(again), 1),
        "idle_cpu_percent": round(idle * 100, 2),
        "rss_mb": round(memory, 1),
    }


def main() -> None:
    kinds: dict[str, type[Peer]] = {p.name: p for p in (Gdos, Supervisor, Circus, Pm2)}
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--children", type=int, default=200)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", nargs="*", choices=kinds, default=list(kinds))
    asked = options.parse_args()
    for name in asked.only:
        with tempfile.TemporaryDirectory(prefix=f"gdos-peer-{name}-") as folder:
            print(json.dumps(measure(kinds[name](Path(folder), asked.children), asked.rounds)), flush=True)


if __name__ == "__main__":
    main()
