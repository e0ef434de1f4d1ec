"""What runs already, brought under care: found, watched, managed, forgotten; and imported from other supervisors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from gdos.model import imports
from gdos.model.errors import BadInput, Conflict
from gdos.model.systemfile import read
from tests.component.test_lifecycle import free_port
from tests.kit.cluster import Cluster
from tests.kit.packages import APPS
from tests.kit.wait import wait_until

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Start, int, Path]]:
    """Starts tests/apps/listener.py outside of GDOS; its port, its folder with `pid` and `log`."""
    port, made = free_port(), []

    def start() -> subprocess.Popen[bytes]:
        (tmp_path / "pid").unlink(missing_ok=True)
        with open(tmp_path / "log", "ab") as log:
            argv = [sys.executable, "-u", str(APPS / "listener.py"), str(tmp_path), str(port)]
            made.append(subprocess.Popen(argv, stdout=log, start_new_session=True))
        wait_until(lambda: (tmp_path / "pid").exists(), "the service")
        return made[-1]

    yield start, port, tmp_path
    for process in made:
        process.kill()
        process.wait()


def adopt(cluster: Cluster, target: str, *args: str, code: int = 0) -> str:
    return cluster.run_cli("adopt", target, "--node", "w1", *args, code=code)


def test_a_service_is_watched_and_left_alone(cluster: Cluster, service: tuple[Start, int, Path]) -> None:
    start, port, folder = service
    said = adopt(cluster, "infra/db", "--port", str(port), "--test")
    assert said.startswith("nothing that runs now fits")
    process = start()
    said = adopt(cluster, "infra/db", "--port", str(port), "--test")
    assert said.startswith(f"one process fits: {psutil.Process(process.pid).name()} (PID {process.pid})")
    assert cluster.client.all("/systems") == []  # a test saves nothing
    listed = json.loads(cluster.run_cli("candidates", "w1", "--search", str(folder), "--json"))
    mine = next(c for c in listed if c["pid"] == process.pid)
    assert (mine["ports"], mine["instance"], mine["exe"]) == ([port], "", os.path.realpath(sys.executable))

    adopt(cluster, "infra/db", "--port", str(port), "--log", f"main={folder / 'log'}", "--wait")
    found = cluster.instance("db-1")
    assert (found["state"], found["pid"], found["is_adopted"]) == ("running", process.pid, True)
    assert found["started_at"] is not None
    wait_until(lambda: (cluster.instance("db-1")["metrics"] or {}).get("rss"), "its metrics")
    assert "hello from a listener" in cluster.run_cli("logs", "db-1", "--file", "main")
    with pytest.raises(Conflict, match="is only watched: nobody said how to stop it"):
        cluster.act("db-1", "stop")
    assert f"of {psutil.Process(process.pid).username()}" in said

    cluster.workers["w1"].kill()
    cluster.start_worker("w1")
    states = [e["state"] for e in cluster.client.get("/instances/db-1/timeline")]
    assert states[0] == "running"  # the same process: it was never gone
    assert cluster.instance("db-1")["pid"] == process.pid
    process.kill()
    process.wait()
    assert "is not running" in cluster.wait_state("db-1", "stopped")["reason"]
    again = start()
    wait_until(lambda: cluster.instance("db-1")["pid"] == again.pid, "the new one to be found")
    cluster.workers["w1"].kill()
    again.kill()
    again.wait()
    cluster.start_worker("w1")
    cluster.wait_state("db-1", "stopped")
    ends = [r["reason"] for r in cluster.client.get("/instances/db-1/runs")["items"]]
    assert ends[0] == "ended while the worker was away"
    assert len(ends) == 2
    again = start()
    wait_until(lambda: cluster.instance("db-1")["pid"] == again.pid, "the third to be found")

    cluster.act("db-1", "destroy")
    assert cluster.instances() == []
    assert again.poll() is None  # the record is gone, the process is not


def test_a_service_is_managed_by_its_own_commands(cluster: Cluster, service: tuple[Start, int, Path]) -> None:
    start, port, folder = service
    process = start()
    program = f"{sys.executable} -u {APPS / 'listener.py'} {folder} {port}"
    stop = folder / "stop.sh"
    stop.write_text(f"#!/bin/sh\necho stopping $GDOS_PID >> {folder}/stops\nkill $GDOS_PID\n")
    stop.chmod(0o755)
    daemon = folder / "start.sh"
    daemon.write_text(f"#!/bin/sh\nsetsid {program} >/dev/null 2>&1 &\n")
    daemon.chmod(0o755)
    way = ["--pid-file", str(folder / "pid"), "--start", str(daemon), "--stop", str(stop)]
    adopt(cluster, "infra/db", *way, "--wait")
    assert cluster.instance("db-1")["pid"] == process.pid  # taken as it was
    cluster.act("db-1", "stop")
    assert process.wait(10) == -signal.SIGTERM
    assert (folder / "stops").read_text() == f"stopping {process.pid}\n"
    cluster.act("db-1", "start")
    mine = cluster.instance("db-1")["pid"]
    assert mine not in (None, process.pid)
    os.kill(mine, signal.SIGKILL)
    wait_until(lambda: cluster.instance("db-1")["pid"] not in (None, mine), "the restart")
    last = cluster.instance("db-1")["pid"]
    cluster.act("db-1", "destroy")
    assert psutil.pid_exists(last)
    os.kill(last, signal.SIGKILL)


def test_adopting_must_be_allowed_and_clear(
    make_cluster: Callable[..., Cluster], service: tuple[Start, int, Path]
) -> None:
    cluster = make_cluster(workers=0)
    cluster.start_worker("w1", "--allow", "deploy,supervise")
    assert "does not allow adopt (--allow deploy,supervise)" in adopt(cluster, "i/x", "--name", "x", code=1)
    cluster.start_worker("w2")
    assert "in one way" in adopt(cluster, "i/x", "--name", "x", "--port", "1", code=2)
    body = {"system": "i", "module": "x", "node": "w2", "external": {"pid_strategy": "port", "colour": "red"}}
    with pytest.raises(BadInput, match=r"colour: is not a known field.*port: is missing; pid_strategy port needs port"):
        cluster.client.post("/adoptions", body)
    words = [subprocess.Popen(["sleep", "98765"]) for _ in range(2)]
    try:
        body["external"] = {"pid_strategy": "match", "match_args": "sleep 98765"}
        with pytest.raises(Conflict, match="2 processes fit and none is the parent of the others"):
            cluster.client.post("/adoptions", body)
        assert cluster.client.all("/systems") == []
    finally:
        for process in words:
            process.kill()
            process.wait()


def test_what_is_only_watched_does_not_stand_in_the_way_of_its_system(
    cluster: Cluster, service: tuple[Start, int, Path]
) -> None:
    start, port, _ = service
    process = start()
    for version in ("1", "2"):
        cluster.upload("sleeper", version)
    adopt(cluster, "shop/db", "--port", str(port), "--wait")
    cluster.deploy("shop/web", "sleeper:1")
    for action, more in (("stop", {}), ("start", {}), ("restart", {}), ("upgrade", {"version": "2"})):
        task = cluster.client.post("/systems/shop/actions", {"action": action, **more})
        assert cluster.done(task)["state"] == "succeeded"
    assert cluster.instance("web-1")["version"] == "2"
    assert process.poll() is None
    with pytest.raises(Conflict, match="was adopted: it has no versions"):
        cluster.act("shop/db", "upgrade", version="2")


def test_a_system_file_may_adopt(cluster: Cluster, service: tuple[Start, int, Path]) -> None:
    start, port, _ = service
    process = start()
    file = {"system": "infra", "modules": {"db": {"external": {"pid_strategy": "port", "port": port}, "nodes": ["w1"]}}}
    path = cluster.folder / "infra.yaml"
    path.write_text(yaml.safe_dump(file))
    cluster.run_cli("apply", "-f", str(path), "--wait")
    assert cluster.instance("db-1")["pid"] == process.pid
    assert "nothing to change" in cluster.run_cli("plan", "-f", str(path))
    exported = yaml.safe_load(cluster.run_cli("export", "infra"))
    assert exported["modules"]["db"]["nodes"] == ["w1"]
    path.write_text(yaml.safe_dump(exported))
    assert "nothing to change" in cluster.run_cli("plan", "-f", str(path))


# --- import


SUPERVISOR = """
[supervisord]
logfile=/tmp/s.log
[program:web]
command=/usr/bin/python3 -m http.server 8000 --bind "127.0.0.1"
directory=/srv/web
user=www
environment=PORT="8000",MODE='fast mode'
autorestart=true
startretries=5
stopsignal=QUIT
stopwaitsecs=20
stdout_logfile=/var/log/%(program_name)s.log
priority=10
[program:once]
command=/bin/job
autorestart=false
startsecs=0
"""
PM2 = json.dumps(
    [
        {
            "name": "api",
            "pm_exec_path": "/srv/api/server.js",
            "pm_cwd": "/srv/api",
            "args": ["--port", "3000"],
            "exec_interpreter": "node",
            "env": {"NODE_ENV": "production", "PATH": "/bin", "PM2_HOME": "/root/.pm2"},
            "pm_out_log_path": "/root/.pm2/logs/api-out.log",
            "pm_pid_path": "/root/.pm2/pids/api-0.pid",
            "autorestart": True,
        }
    ]
)
UNIT = """
[Unit]
Description=Thing
After=network.target
[Service]
Type=simple
Environment=A=1 "B=two words"
ExecStart=
ExecStart=/opt/thing/bin/thing \\
    --port 80
WorkingDirectory=/opt/thing
User=thing
Restart=always
RestartSec=5s
TimeoutStopSec=1min 30s
LimitNOFILE=4096
[Install]
WantedBy=multi-user.target
"""


def externals(name: str, text: str, **more: Any) -> dict[str, dict[str, Any]]:
    """Imported, and checked as a system file is."""
    found = imports.read(name, text, **more).modules
    read({"system": "s", "modules": {k: {"external": v, "nodes": ["n"]} for k, v in found.items()}})
    return found


def test_supervisors_programs_stay_where_they_are_or_are_taken_over() -> None:
    stay = externals("s.conf", SUPERVISOR, take_over=False)
    assert sorted(stay) == ["once", "web"]
    assert stay["web"]["pid_strategy"] == "match"
    assert stay["web"]["args"] == ["start", "web"]
    assert stay["web"]["log_paths"] == {"stdout": "/var/log/web.log"}
    taken = externals("s.conf", SUPERVISOR, take_over=True)
    assert taken["web"] == {
        "pid_strategy": "spawn", "external_work_dir": "/srv/web", "entrypoint": "/usr/bin/python3",
        "args": ["-m", "http.server", "8000", "--bind", "127.0.0.1"], "env": {"PORT": "8000", "MODE": "fast mode"},
        "user": "www", "restart": "always", "restart_max_retries": 5, "stop_signal": "QUIT", "stop_timeout": 20,
        "readiness_type": "time", "readiness_target": "1", "log_paths": {"stdout": "/var/log/web.log"},
    }  # fmt: skip
    assert taken["once"]["restart"] == "never"
    assert imports.read("s.conf", SUPERVISOR, take_over=True).warnings == ["web: not carried over: priority"]


def test_pm2s_processes() -> None:
    assert externals("dump.pm2", PM2, take_over=False)["api"]["pid_file"] == "/root/.pm2/pids/api-0.pid"
    taken = externals("dump.pm2", PM2, take_over=True)["api"]
    assert [taken["entrypoint"], *taken["args"]] == ["node", "/srv/api/server.js", "--port", "3000"]
    assert taken["env"] == {"NODE_ENV": "production"}


def test_a_systemd_unit() -> None:
    stay = externals("/etc/systemd/system/thing.service", UNIT, take_over=False)["thing"]
    assert (stay["unit"], stay["entrypoint"], stay["args"]) == (
        "thing.service",
        "systemctl",
        ["start", "thing.service"],
    )
    taken = externals("thing.service", UNIT, take_over=True)["thing"]
    assert [taken["entrypoint"], *taken["args"]] == ["/opt/thing/bin/thing", "--port", "80"]
    assert (taken["env"], taken["stop_timeout"], taken["restart"]) == ({"A": "1", "B": "two words"}, 90, "always")
    assert imports.read("thing.service", UNIT, take_over=True).warnings == [
        "thing.service: not carried over: LimitNOFILE"
    ]
    with pytest.raises(BadInput, match="Type=forking"):
        imports.read("x.service", "[Service]\nType=forking\nExecStart=/bin/x", take_over=True)


@pytest.mark.parametrize("text", ["", "nonsense", "[{}]", "[program:x]\n", "[Service]\nExecStart="])
def test_what_cannot_be_imported_says_so(text: str) -> None:
    with pytest.raises(BadInput):
        imports.read("file", text, take_over=True)


def test_an_imported_program_is_run(cluster: Cluster, tmp_path: Path) -> None:
    ini = tmp_path / "s.conf"
    port = free_port()
    ini.write_text(
        f"[program:lis]\ncommand={sys.executable} {APPS / 'listener.py'} {tmp_path} {port}\ndirectory={tmp_path}\n"
    )
    out = cluster.folder / "s.yaml"
    cluster.run_cli("import", str(ini), "--system", "old", "--node", "w1", "--take-over", "-o", str(out))
    cluster.run_cli("apply", "-f", str(out), "--wait")
    found = cluster.instance("lis-1")
    assert found["state"] == "running"
    assert int((tmp_path / "pid").read_text()) == found["pid"]
    cluster.act("lis-1", "destroy")
    assert not psutil.pid_exists(found["pid"])  # GDOS has started it, so GDOS ends it
