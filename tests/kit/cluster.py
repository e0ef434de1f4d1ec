"""Real masters and workers as processes, on free ports in a temporary folder; ended by PID, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from gdos.cli.client import Client
from gdos.model.errors import GdosError, Unreachable
from gdos.worker.platform.cgroups import Cgroups
from tests.kit.packages import make_package
from tests.kit.wait import wait_until

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "correct horse"
SOURCE = [sys.executable, "-m", "gdos"]


class Program:
    """One `gdos` process. `ready` is its ready line."""

    def __init__(self, command: list[str], cwd: Path, log: Path, env: dict[str, str]) -> None:
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, start_new_session=True
            )
        self._before = log.stat().st_size if log.exists() else 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, count: int) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.text()[-3000:]}")
            return self.text().count("\nready ") + self.text().startswith("ready ") >= count

        wait_until(ready, f"the ready line in {self.log.name}")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Cluster:
    """`command` starts gdos: the source tree, or the archive."""

    def __init__(self, folder: Path, command: list[str] | None = None) -> None:
        self.folder = folder
        self.command = command or SOURCE
        self.master: Program | None = None
        self.workers: dict[str, Program] = {}
        self.url = ""
        self.port = 0
        self._master_args: list[str] = []
        self._worker_args: dict[str, list[str]] = {}
        self._starts: dict[str, int] = {}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("OPS_", "GDOS_"))}
        self.env.update(
            XDG_STATE_HOME=str(folder / "state"),
            XDG_CONFIG_HOME=str(folder / "config"),
            GDOS_ADMIN_PASSWORD=PASSWORD,
            PYTHONPATH=str(ROOT),
        )
        self._client: Client | None = None

    # --- processes

    def start_master(self, *args: str) -> Program:
        """A new one, or the same again after `kill_master`, on the same port."""
        if args or not self._master_args:
            self._master_args = list(args)
        data = ["--data-dir", str(self.folder / "master"), "--host", "127.0.0.1", "--port", str(self.port)]
        self.master = self._start("master", ["master", *data, *self._master_args])
        line = [x for x in self.master.text().splitlines() if x.startswith("ready ")][-1]
        self.url = line.split("url=")[1].split()[0]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        return self.master

    def kill_master(self) -> None:
        assert self.master is not None
        self.master.kill()

    def start_worker(self, name: str = "w1", *args: str, master: str = "", wait: bool = True) -> Program:
        """A new one, or the same again after a kill."""
        if name not in self._worker_args:
            token = [] if "--join-token" in args else ["--join-token", self.join_token()]
            own = ["--master", master or self.url, "--name", name, "--port", "0", *token]
            self._worker_args[name] = [*own, "--work-dir", str(self.work_dir(name)), *args]
        self.workers[name] = self._start(name, ["worker", *self._worker_args[name]])
        if wait:
            self.wait_node(name)
        return self.workers[name]

    def work_dir(self, name: str = "w1") -> Path:
        return self.folder / name

    def _start(self, name: str, args: list[str]) -> Program:
        self._starts[name] = self._starts.get(name, 0) + 1
        program = Program([*self.command, *args], self.folder, self.folder / f"{name}.log", self.env)
        program.wait_ready(self._starts[name])
        return program

    def close(self) -> None:
        """End all processes that this cluster started, and every service that they left."""
        for program in [*self.workers.values(), *([self.master] if self.master else [])]:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
                program.kill()
        self.kill_services()
        wait_until(lambda: not self.services(), "all services to end")
        for name in self.workers:
            wait_until(lambda name=name: self._clear_groups(name), "all control groups to be empty")  # type: ignore[misc]

    def _clear_groups(self, name: str) -> bool:
        """Whatever is left in the control groups of a worker ends, and so do they."""
        groups = Cgroups(self.work_dir(name))
        for home in set(groups._homes.values()):
            for file in home.glob("*/cgroup.procs"):
                for pid in map(int, file.read_text().split()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        groups.close()
        return not any(home.exists() for home in groups._homes.values())

    def kill_services(self) -> None:
        for process in self.services():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @staticmethod
    def mark_of(process: psutil.Process) -> str:
        """The instance that a process belongs to; of one that has just ended its PID."""
        try:
            return process.environ().get("GDOS_INSTANCE_ID", "")
        except psutil.Error:
            return str(process.pid)

    def services(self) -> list[psutil.Process]:
        """Every process that any instance of this cluster started and that still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get("GDOS_INSTANCE_DIR", "")
                if mark.startswith(str(self.folder)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def logs(self) -> str:
        """The ends of all logs, for a failing test."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}")
        return "\n".join(parts)

    # --- the API

    @property
    def client(self) -> Client:
        if self._client is None or self._client.master != self.url:
            anonymous = Client(self.url, "")
            token = anonymous.post("/login", {"user": "admin", "password": PASSWORD})["token"]
            self._client = Client(self.url, token)
        return self._client

    def join_token(self, **more: Any) -> str:
        return str(self.client.post("/join-tokens", {"name": "test", **more})["token"])

    def node(self, name: str) -> dict[str, Any] | None:
        return next((n for n in self.client.all("/nodes") if n["name"] == name), None)

    def wait_node(self, name: str, state: str = "online", timeout_s: float = 30.0) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            node = self.node(name)
            return node if node is not None and node["state"] == state else None

        return wait_until(look, f"node {name} to be {state}", timeout_s)

    def upload(self, app: str = "sleeper", version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
        """Make and upload a package of tests/apps."""
        path = make_package(self.folder / "packages", app, version, **fields)
        return self.upload_file(path)

    def upload_file(self, path: Path) -> dict[str, Any]:
        import json

        headers = {"Content-Type": "application/zip"}
        answer = self.client.request("POST", "/packages", body=path.read_bytes(), headers=headers)
        return dict(json.loads(answer.data))

    def plan(self, target: str, package: str) -> None:
        """System and module for SYSTEM/MODULE and NAME:VERSION."""
        system, module = target.split("/")
        name, version = package.split(":")
        if not any(s["name"] == system for s in self.client.all("/systems")):
            self.client.post("/systems", {"name": system})
        self.client.post(f"/systems/{system}/modules", {"name": module, "package": name, "version": version})

    def deploy(self, target: str, package: str = "", *, wait: bool = True, **body: Any) -> dict[str, Any]:
        """The task; with `package` the module is planned first."""
        if package:
            self.plan(target, package)
        task = self.client.post("/instances", {"module": target, **body})
        return self.done(task) if wait else task

    def act(self, target: str, action: str, *, wait: bool = True, **body: Any) -> dict[str, Any]:
        """On SYSTEM/MODULE or an instance."""
        system, slash, module = target.partition("/")
        path = f"/systems/{system}/modules/{module}/actions" if slash else f"/instances/{target}/actions"
        task = self.client.post(path, {"action": action, **body})
        return self.done(task) if wait else task

    def done(self, task: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
        return self.client.wait(task, timeout_s, lambda seen: None)

    def run_cli(self, *args: str, code: int = 0, stdin: str = "", env: dict[str, str] | None = None) -> str:
        """What a client command prints; `code` is what it has to end with. Errors come with what it said."""
        known = {**self.env, "GDOS_MASTER": self.url, "GDOS_TOKEN": self.client._token, **(env or {})}
        done = subprocess.run(
            [*self.command, *args], cwd=self.folder, env=known, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def ended(self, task: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
        """The task once it is over, however."""

        def look() -> dict[str, Any] | None:
            now = self.patient(lambda: self.client.get(f"/tasks/{task['id']}"))
            return now if now["finished_at"] else None

        return wait_until(look, f"the end of {task['kind']}", timeout_s)

    def patient(self, call: Callable[[], Any]) -> Any:
        """A call again and again while the master is away."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return call()
            except (Unreachable, GdosError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def instances(self) -> list[dict[str, Any]]:
        return self.client.all("/instances")

    def instance(self, name: str) -> dict[str, Any]:
        return next(i for i in self.instances() if name in (i["name"], i["id"]))

    def wait_state(self, name: str, state: str, timeout_s: float = 30.0) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = [i for i in self.instances() if i["name"] == name]
            return found[0] if found and found[0]["state"] == state else None

        return wait_until(
            look, f"{name} to be {state} (is {[(i['state'], i['reason']) for i in self.instances()]})", timeout_s
        )
