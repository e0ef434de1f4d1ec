"""Real, known services and the worst of their kind, packaged here, on three workers from the built file: described in
one system file, started in order, used, upgraded, broken, and gone without a trace.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from gdos.pack.build import build
from tests.component.test_lifecycle import free_port
from tests.component.test_supervision import limited
from tests.conftest import need
from tests.e2e.test_archive import GDOS, shared_cache
from tests.kit.cluster import Cluster
from tests.kit.packages import APPS
from tests.kit.wait import wait_until

REDIS = {
    "entrypoint": "redis-server",
    "args": ["redis.conf"],
    "templates": ["redis.conf"],
    "data_dirs": ["data"],
    "readiness_type": "exec",
    "readiness_target": "redis-cli -p ${REDIS_PORT} ping",
    "liveness_type": "tcp",
    "liveness_target": "127.0.0.1:${REDIS_PORT}",
    "stop_timeout": 20,
}
REDIS_CONF = 'port ${REDIS_PORT}\nbind 127.0.0.1\ndir data\nappendonly yes\nsave ""\nrequirepass ""\n'
NGINX = {
    "entrypoint": "nginx",
    "args": ["-p", "./", "-c", "conf/nginx.conf", "-e", "stderr"],
    "templates": ["conf/nginx.conf", "html/index.html"],
    "readiness_type": "http",
    "readiness_target": "http://127.0.0.1:${NGINX_PORT}/",
    "stop_signal": "QUIT",
    "log_paths": {"access": "access.log"},
}
NGINX_CONF = """
daemon off; pid nginx.pid; worker_processes 2; error_log stderr;
events {}
http {
  access_log access.log;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen 127.0.0.1:${NGINX_PORT}; root html; add_header X-Host $host; }
}
"""


def package(cluster: Cluster, name: str, version: str, manifest: dict[str, Any], files: dict[str, str]) -> None:
    """Pack and upload, with the command line as an operator does."""
    folder = cluster.folder / f"{name}-{version}"
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "service.json").write_text(json.dumps({"name": name, "version": version, **manifest}))
    archive = build(folder, cluster.folder / f"{name}-{version}.zip").path
    cluster.run_cli("upload", str(archive))


def app(name: str) -> dict[str, str]:
    return {"app.py": (APPS / f"{name}.py").read_text()}


def python(**more: Any) -> dict[str, Any]:
    return {"entrypoint": "python3", "args": ["-u", "app.py"], "stop_timeout": 2, **more}


@pytest.fixture
def three(make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> Cluster:
    need("archive", GDOS.exists(), "make zipapp builds dist/gdos")
    for program in ("redis-server", "nginx"):
        need(program.partition("-")[0], shutil.which(program) is not None, f"Debian's {program}")
    monkeypatch.setenv("XDG_CACHE_HOME", shared_cache())
    made = make_cluster(workers=0, command=[sys.executable, str(GDOS)])
    made.env.pop("PYTHONPATH")
    for name in ("w1", "w2", "w3"):
        made.start_worker(name, "--log-max-size", "1MB", "--log-instance-quota", "4MB")
    return made


def upload_all(cluster: Cluster) -> None:
    package(cluster, "redis", "7.0", REDIS, {"redis.conf": REDIS_CONF})
    for version, body in (("1.0", "hello from ${GDOS_NODE}"), ("1.1", "hello again from ${GDOS_NODE}")):
        package(cluster, "nginx", version, NGINX, {"conf/nginx.conf": NGINX_CONF, "html/index.html": body, "tmp/x": ""})
    slow = python(readiness_type="log", readiness_target="ready now", readiness_timeout=60)
    package(cluster, "slow", "1", slow, app("late"))
    package(cluster, "forker", "1", python(readiness_type="log", readiness_target="forked"), app("forker"))
    package(cluster, "flood", "1", python(env={"LINES": "100000000"}), app("flood"))
    package(cluster, "stubborn", "1", python(readiness_type="log", readiness_target="hello"), app("stubborn"))
    crash = {"entrypoint": "sh", "args": ["-c", "echo soon; sleep 3; exit 9"], "restart_delay": 0.1}
    package(cluster, "crash", "1", crash, {"note": "dies every three seconds"})
    leak = python(limits={"memory": "48M"}, restart_delay=0.1)
    package(cluster, "leaker", "1", leak, app("leaker"))


def system(cluster: Cluster, redis: int, nginx: int) -> dict[str, Any]:
    trace = {"TRACE": str(cluster.folder / "trace"), "LATE": "3"}
    return {
        "system": "shop",
        "values": {"REDIS_PORT": str(redis), "NGINX_PORT": str(nginx)},
        "modules": {
            "cache": {"package": "redis:7.0", "nodes": ["w1"]},
            "slow": {"package": "slow:1", "values": trace},
            "web": {
                "package": "nginx:1.0",
                "nodes": ["w2"],
                "depends_on": [{"module": "cache", "gate": "port", "target": str(redis)}, "slow"],
                "strategy": {"min_healthy": 0.5},
            },
            "forker": {"package": "forker:1", "depends_on": [{"module": "slow", "gate": "started"}]},
            "flood": {"package": "flood:1"},
            "stubborn": {"package": "stubborn:1"},
            "crash": {"package": "crash:1"},
            "leaker": {"package": "leaker:1"},
        },
    }


def get(port: int) -> str:
    return urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False).data.decode()


def test_a_shop_of_known_services(three: Cluster, tmp_path: Path) -> None:
    limited(three, tmp_path)
    redis, nginx = free_port(), free_port()
    upload_all(three)
    path = three.folder / "shop.yaml"
    path.write_text(yaml.safe_dump(system(three, redis, nginx)))
    out = three.run_cli("apply", "-f", str(path), "--wait")
    assert "apply shop: succeeded" in out

    assert get(nginx) == "hello from w2"
    web = three.instance("web-1")
    pids = {p["command"].split(":")[0] for p in three.client.get("/instances/web-1/processes")}
    assert pids == {"nginx"}
    assert len(three.client.get("/instances/web-1/processes")) == 3  # the master and its two workers
    slow_up = next(e for e in three.client.get("/instances/slow-1/timeline") if e["kind"] == "ready")["at"]
    started = next(e for e in three.client.get("/instances/web-1/timeline") if e["kind"] == "start")["at"]
    assert slow_up <= started  # nginx waited for the slow one

    wait_until(lambda: three.instance("crash-1")["restarts"] >= 2, "the crashing one to come back twice")
    assert "exited with code 9" in three.run_cli("why", "crash-1")
    wait_until(lambda: three.instance("leaker-1")["restarts"] >= 1, "the leaking one to be killed")
    assert any(r["is_oom"] for r in three.client.get("/instances/leaker-1/runs")["items"])
    assert "out of memory" in three.run_cli("why", "leaker-1")
    flooded = three.instance("flood-1")
    logs = next((three.work_dir(flooded["node"]) / "instances" / "shop").glob("flood-*/logs"))

    def used() -> int:
        return sum(p.stat().st_blocks * 512 for p in logs.iterdir() if p.exists())

    wait_until(lambda: list(logs.glob("app.log.*")), "a rotation")
    wait_until(lambda: used() < 40 << 20, "the quota")

    three.run_cli("stop", "stubborn-1", "--wait")
    assert "killed" in three.instance("stubborn-1")["reason"]
    before = three.instance("cache-1")["pid"]
    three.run_cli("upgrade", "shop/web", "--to", "1.1", "--wait")
    assert get(nginx) == "hello again from w2"
    assert three.instance("web-1")["pid"] != web["pid"]
    assert three.instance("cache-1")["pid"] == before
    three.run_cli("rollback", "shop/web", "--wait")
    assert get(nginx) == "hello from w2"

    three.run_cli("stop", "shop", "--wait")
    assert three.services() == []
    three.run_cli("destroy", "shop", "--wait")
    assert three.instances() == []
    assert three.services() == []
