"""`gdos demo`: a master and a worker of their own, a sample service through its whole life, every step checked."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gdos.cli.client import Client
from gdos.cli.render import is_terminal, print_line
from gdos.console import baked
from gdos.model.errors import GdosError, TimedOut

START_S = 60.0
TASK_S = 60.0
SYSTEM, MODULE = "demo", "hello"


def demo(
    once: Annotated[bool, typer.Option("--once", help="Do it all, check it, clean up, end.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
) -> None:
    """The five-minute tour: master, worker and a sample service on free ports of this machine.

    Example: gdos demo --once
    """
    folder = Path(tempfile.mkdtemp(prefix="gdos-demo-"))
    tour = Tour(folder)
    try:
        tour.set_up()
        if once:
            tour.life()
        else:
            tour.stay()
        tour.tear_down()
    finally:
        tour.end_processes()
        if keep:
            print_line(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    tour.check_nothing_left()


class Tour:
    """The steps, in order. Each is a line with its time; one that fails raises GdosError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_urlsafe(12)
        self.port = _free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pids: set[int] = set()
        self.client = Client("http://127.0.0.1:1", "")
        self._step = 0

    # --- the steps

    def set_up(self) -> None:
        with self.step("start a master") as say:
            port = _free_port()
            args = ["master", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self.folder / "master")]
            self.launch("master", args)
            say(f"http://127.0.0.1:{port}")
        with self.step("sign in as admin, make a join token"):
            anonymous = Client(f"http://127.0.0.1:{port}", "")
            token = anonymous.post("/login", {"user": "admin", "password": self.password})["token"]
            self.client = Client(anonymous.master, token)
            join = self.client.post("/join-tokens", {"name": "demo", "uses": 1, "ttl": "10m"})["token"]
        with self.step("start a worker, which joins") as say:
            args = ["worker", "--master", anonymous.master, "--work-dir", str(self.folder / "worker"), "--port", "0"]
            self.launch("worker", [*args, "--name", "demo-node"], {"GDOS_JOIN_TOKEN": join})
            node = self.wait("the node to be online", lambda: self.find("/nodes", "state", "online"))
            say(f"{node['name']}, {node['facts'].get('os_name', node['os'])}, {node['facts']['cpu']['cores']} cores")
        with self.step("pack the sample service") as say:
            zips = [self.pack("1.0.0"), self.pack("1.1.0")]
            say(", ".join(z.name for z in zips))
        with self.step("upload both versions"):
            for path in zips:
                self.client.request(
                    "POST", "/packages", body=path.read_bytes(), headers={"Content-Type": "application/zip"}
                )
        with self.step("place it in a system as a module"):
            self.client.post("/systems", {"name": SYSTEM, "description": "made by gdos demo"})
            self.client.post(f"/systems/{SYSTEM}/modules", {"name": MODULE, "package": "hello", "version": "1.0.0"})
        with self.step("deploy, start, wait until its HTTP probe says ready") as say:
            body = {"module": f"{SYSTEM}/{MODULE}", "env": {"PORT": str(self.port)}}
            self.done(self.client.post("/instances", body))
            say(f"PID {self.running()['pid']}")
        with self.step("ask it over HTTP") as say:
            say(self.expect_version("1.0.0"))

    def life(self) -> None:
        """Everything that can be done with it, once."""
        with self.step("read CPU and memory through the API") as say:
            metrics = self.wait("the first sample", lambda: self.instance().get("metrics"))
            say(f"CPU {metrics['cpu']:.3f} cores, memory {metrics['rss'] / 2**20:.1f} MiB")
        with self.step("read its log through the API") as say:
            text = self.client.request(
                "GET", f"/instances/{self.instance()['id']}/logs/app.log", query={"tail": 5}
            ).data
            _expect("listening on port" in text.decode(), f"its log has no start line: {text!r}")
            say(text.decode().splitlines()[-1])
        with self.step("restart it") as say:
            before = self.running()["pid"]
            self.act("restart")
            say(f"PID {before} -> {self.running()['pid']}")
            _expect(self.running()["pid"] != before, "the restart kept the old process")
        with self.step("upgrade it to 1.1.0") as say:
            self.act("upgrade", "1.1.0")
            say(self.expect_version("1.1.0"))
        with self.step("roll it back") as say:
            self.act("rollback")
            say(self.expect_version("1.0.0"))
        with self.step("stop it"):
            self.act("stop")
            _expect(self.instance()["state"] == "stopped", f"it is {self.instance()['state']}")
        with self.step("destroy it, remove the system"):
            self.act("destroy")
            _expect(not self.client.all("/instances"), "the instance is still listed")
            self.client.call("DELETE", f"/systems/{SYSTEM}")

    def stay(self) -> None:
        """The live status until Ctrl-C."""
        print_line("")
        print_line(f"console   {self.client.master}/   user admin, password {self.password}")
        print_line(f"service   http://127.0.0.1:{self.port}/")
        print_line("Ctrl-C ends the demo and removes everything.")
        with contextlib.suppress(KeyboardInterrupt):
            if not is_terminal():
                while all(p.poll() is None for p in self.processes.values()):
                    time.sleep(0.5)
                return
            self.live()
        self.act("destroy")

    def live(self) -> None:
        """A table that is drawn anew each second."""
        from rich.live import Live

        from gdos.cli.client import Session
        from gdos.cli.status import look, view

        session = Session(self.client, False, False, False)
        with Live(view(look(session)), auto_refresh=False) as live:
            while True:
                time.sleep(1)
                live.update(view(look(session)), refresh=True)

    def tear_down(self) -> None:
        with self.step("stop worker and master"):
            self.end_processes()
            for name, process in self.processes.items():
                _expect(process.returncode == 0, f"the {name} ended with {process.returncode}")

    def check_nothing_left(self) -> None:
        """No process of the service may have survived."""
        alive = [pid for pid in self.pids if _is_alive(pid)]
        _expect(not alive, f"processes {alive} are left")

    # --- tools

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """One line with its time, and what came out."""
        self._step += 1
        found: list[str] = []
        began = time.perf_counter()
        try:
            yield found.append
        except BaseException:
            _line(self._step, "failed", text, time.perf_counter() - began, "")
            raise
        _line(self._step, "ok", text, time.perf_counter() - began, found[0] if found else "")

    def launch(self, name: str, args: list[str], env: dict[str, str] | None = None) -> None:
        """Another process of this same program; returns when it is ready."""
        output = open(self.folder / f"{name}.log", "wb")  # noqa: SIM115 - the process keeps it
        own = {"GDOS_ADMIN_PASSWORD": self.password, "XDG_STATE_HOME": str(self.folder / "state")}
        child_env = {**os.environ, **own, **(env or {})}
        process = subprocess.Popen(
            [*_program(), *args], stdout=subprocess.PIPE, stderr=output, stdin=subprocess.DEVNULL, env=child_env,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
        output.close()
        self.processes[name] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(b"ready"):
            process.wait(START_S)
            text = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise GdosError(f"the {name} did not start: {text[-1] if text else 'it said nothing'}")

    def end_processes(self) -> None:
        """Ask, wait, and end what does not listen."""
        with contextlib.suppress(GdosError, OSError):
            self.stop_services()
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def stop_services(self) -> None:
        """After a failure half-way: the service must not outlive the demo."""
        if self.processes.get("worker") is None or self.processes["worker"].poll() is not None:
            return
        for instance in self.client.all("/instances"):
            self.done(self.client.post(f"/instances/{instance['id']}/actions", {"action": "destroy"}))

    def pack(self, version: str) -> Path:
        from gdos.pack.build import build

        source = self.folder / f"hello-{version}"
        shutil.copytree(baked("examples") / "hello", source)
        manifest = source / "service.json"
        manifest.write_text(manifest.read_text().replace('"1.0.0"', f'"{version}"'))
        return build(source, self.folder / f"hello-{version}.zip").path

    def act(self, action: str, version: str | None = None) -> None:
        body = {"action": action, **({"version": version} if version else {})}
        self.done(self.client.post(f"/systems/{SYSTEM}/modules/{MODULE}/actions", body))

    def done(self, task: dict[str, Any]) -> None:
        self.client.wait(task, TASK_S, lambda seen: None)

    def instance(self) -> dict[str, Any]:
        found = self.client.all("/instances")
        _expect(len(found) == 1, f"expected one instance, there are {len(found)}")
        return found[0]

    def running(self) -> dict[str, Any]:
        found = self.instance()
        _expect(found["state"] == "running", f"it is {found['state']}: {found['reason']}")
        self.pids.add(found["pid"])
        return found

    def expect_version(self, version: str) -> str:
        import urllib3

        text = str(urllib3.request("GET", f"http://127.0.0.1:{self.port}/").data.decode()).strip()
        _expect(f"version {version}" in text, f"expected version {version}, it said {text!r}")
        self.running()
        return text

    def find(self, path: str, key: str, value: str) -> dict[str, Any] | None:
        return next((item for item in self.client.all(path) if item[key] == value), None)

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(0.05)
        raise TimedOut(f"waited {START_S:.0f} s in vain for {what}")


def _program() -> list[str]:
    """How this program was started: the archive, or the package."""
    archive = Path(sys.argv[0])
    return [sys.executable, str(archive)] if archive.suffix != ".py" else [sys.executable, "-m", "gdos"]


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise GdosError(f"demo: {otherwise}")


def _line(number: int, word: str, text: str, seconds: float, found: str) -> None:
    if is_terminal():
        from rich.console import Console

        mark = "[green]✓[/]" if word == "ok" else "[red]✗[/]"
        Console(highlight=False).print(f"{mark} {text:<52} [dim]{seconds * 1000:7.0f} ms[/]  [cyan]{found}[/]")
    else:
        print_line(f"{number:2} {word:6} {seconds * 1000:7.0f} ms  {text}{f': {found}' if found else ''}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
