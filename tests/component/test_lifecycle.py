"""A real master, a real worker, real services: the life of an instance, and what it says when something is wrong."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from gdos.model.errors import BadInput, Conflict, GdosError, NotFound
from tests.kit.cluster import Cluster
from tests.kit.wait import wait_until


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


WEB: dict[str, Any] = {
    "readiness_type": "http",
    "readiness_target": "http://127.0.0.1:${PORT}/",
    "readiness_timeout": 10,
}


def test_from_deploy_to_destroy(cluster: Cluster) -> None:
    port = free_port()
    for version in ("1.0.0", "1.1.0"):
        cluster.upload("web", version, **WEB)

    def says() -> str:
        return urllib3.request("GET", f"http://127.0.0.1:{port}/").data.decode().split()[0]

    task = cluster.deploy("shop/web", "web:1.0.0", env={"PORT": str(port), "LATE": "0.3"})
    assert task["state"] == "succeeded"
    first = cluster.instance("web-1")
    assert (first["state"], first["version"], first["restarts"]) == ("running", "1.0.0", 0)
    assert says() == "1.0.0"
    folder = next((cluster.work_dir() / "instances" / "shop").iterdir())
    assert (folder / "current").resolve().name == cluster.client.get("/packages/web/1.0.0")["sha256"]

    cluster.act("shop/web", "restart")
    assert cluster.instance("web-1")["pid"] != first["pid"]
    cluster.act("shop/web", "upgrade", version="1.1.0")
    assert says() == "1.1.0"
    downloads = cluster.work_dir() / "cache"
    for file in downloads.iterdir():
        file.unlink()
    cluster.act("shop/web", "rollback")
    assert says() == "1.0.0"
    assert list(downloads.iterdir()) == []  # a rollback needs no download
    assert cluster.client.get("/systems/shop/modules/web")["version"] == "1.0.0"

    pid = cluster.instance("web-1")["pid"]
    cluster.act("web-1", "stop")
    assert cluster.instance("web-1")["state"] == "stopped"
    assert not psutil.pid_exists(pid)
    cluster.act("web-1", "stop")  # asking twice is no error
    cluster.act("web-1", "start")
    kinds = {e["kind"] for e in cluster.client.get("/instances/web-1/timeline")}
    assert {"deploy", "restart", "upgrade", "rollback", "stop", "start", "ready"} <= kinds
    cluster.act("shop/web", "destroy")
    assert cluster.instances() == []
    assert not folder.exists()
    assert cluster.services() == []


def test_the_master_says_no_before_anything_is_made(cluster: Cluster) -> None:
    cluster.upload("sleeper", name="win", os="windows")
    cluster.upload("sleeper", name="ported", ports={"http": 18081})
    with pytest.raises(Conflict, match="runs linux, win 1.0.0 is for windows"):
        cluster.deploy("s/win", "win:1.0.0", node="w1")
    with pytest.raises(Conflict, match="no node can take win: w1 runs linux"):
        cluster.deploy("s/win")
    with pytest.raises(BadInput, match="ghost"):
        cluster.deploy("s/ghost", "ghost:1")
    with pytest.raises(NotFound, match="there is no node nowhere; there are: w1"):
        cluster.deploy("s/win", node="nowhere")
    cluster.deploy("s/ported", "ported:1.0.0")
    with pytest.raises(Conflict, match=r"port 18081 \(http\) on w1 is claimed by s/ported-1"):
        cluster.deploy("s/ported", node="w1")
    with pytest.raises(Conflict, match="no earlier version"):
        cluster.act("s/ported", "rollback")
    assert [i["name"] for i in cluster.instances()] == ["ported-1"]


def test_a_port_that_a_stranger_has_is_named(cluster: Cluster) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        cluster.upload("sleeper", name="blocked", ports={"http": port}, restart_delay=0.1)
        task = cluster.ended(cluster.deploy("s/b", "blocked:1.0.0", wait=False))
        assert task["state"] == "failed"
        assert f"port {port} (http) is taken by" in task["error"]
        assert str(os.getpid()) in task["error"]
    cluster.wait_state("b-1", "running")  # recovers by itself


def test_a_service_that_crashes_is_started_again_with_back_off(cluster: Cluster) -> None:
    cluster.upload("exiter", restart_delay=0.05, restart_max_retries=2, env={"EXIT_CODE": "7"})
    cluster.deploy("s/e", "exiter:1.0.0", wait=False)
    found = cluster.wait_state("e-1", "failed")
    assert found["reason"] == "exited with code 7 after 2 restarts"
    assert found["restarts"] == 2
    assert found["log_tail"] == ["about to end"]
    cluster.act("e-1", "start", wait=False)
    wait_until(lambda: cluster.instance("e-1")["restarts"] > 2, "another try after the start")
    cluster.wait_state("e-1", "failed")
    cluster.act("e-1", "stop")
    assert cluster.instance("e-1")["state"] == "stopped"


def test_exits_are_told_apart(cluster: Cluster) -> None:
    cluster.upload("exiter", "1", name="clean", env={"EXIT_CODE": "0"})
    cluster.upload("exiter", "1", name="job", kind="job", env={"EXIT_CODE": "0"})
    cluster.upload("exiter", "1", name="never", restart="never")
    for name, state in (("clean", "stopped"), ("job", "completed"), ("never", "failed")):
        cluster.deploy(f"s/{name}", f"{name}:1", wait=False)
        cluster.wait_state(f"{name}-1", state)
    assert cluster.instance("never-1")["reason"] == "exited with code 3"


def test_a_killed_service_is_back_at_once(cluster: Cluster) -> None:
    cluster.upload("sleeper", restart_delay=0)
    cluster.deploy("s/k", "sleeper:1.0.0")
    before = cluster.instance("k-1")
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: cluster.instance("k-1")["restarts"] == 1, "the restart")
    after = cluster.wait_state("k-1", "running")
    assert after["pid"] != before["pid"]
    reasons = [e["reason"] for e in cluster.client.get("/instances/k-1/timeline")]
    assert any(r.startswith("ended by SIGKILL") for r in reasons)


def test_not_ready_in_time_says_the_last_answer(cluster: Cluster) -> None:
    port = free_port()
    cluster.upload("web", **{**WEB, "readiness_timeout": 1, "restart": "never"})
    task = cluster.ended(cluster.deploy("s/w", "web:1.0.0", env={"PORT": str(port), "LATE": "never"}, wait=False))
    assert task["state"] == "failed"
    assert f"not ready within 1 s: http://127.0.0.1:{port}/ answered 503" in task["error"]
    assert cluster.services() == []


@pytest.mark.parametrize(
    ("kind", "target"),
    [("tcp", "127.0.0.1:${PORT}"), ("log", "^listening"), ("time", "0.2"), ("exec", "test -d /proc"), ("none", "")],
)
def test_every_kind_of_readiness(cluster: Cluster, kind: str, target: str) -> None:
    cluster.upload("web", readiness_type=kind, readiness_target=target, readiness_timeout=10)
    task = cluster.deploy("s/w", "web:1.0.0", env={"PORT": str(free_port())})
    assert task["state"] == "succeeded"
    assert cluster.instance("w-1")["state"] == "running"


def test_what_ignores_the_signal_is_killed_and_that_is_said(cluster: Cluster) -> None:
    cluster.upload("stubborn", stop_timeout=1, readiness_type="log", readiness_target="hello")
    cluster.deploy("s/x", "stubborn:1.0.0")
    cluster.act("x-1", "stop")
    assert cluster.instance("x-1")["reason"] == "did not stop within 1 s; killed"
    assert cluster.services() == []


def test_a_stop_program_that_fails_is_followed_by_the_signal(cluster: Cluster) -> None:
    cluster.upload("sleeper", stop_entrypoint="sh", stop_args=["-c", "echo cannot stop $GDOS_PID; exit 3"])
    cluster.deploy("s/x", "sleeper:1.0.0")
    pid = cluster.instance("x-1")["pid"]
    cluster.act("x-1", "stop")
    assert "the stop program failed (the stop program ended with 3): the signal" in cluster.instance("x-1")["reason"]
    assert cluster.services() == []
    log = cluster.client.request("GET", "/instances/x-1/logs/app.log", query={"tail": 1}).data
    assert log == b"cannot stop %d\n" % pid


def test_the_whole_tree_goes_with_its_escapees(cluster: Cluster) -> None:
    cluster.upload("forker", readiness_type="log", readiness_target="forked")
    cluster.deploy("s/f", "forker:1.0.0")
    wait_until(lambda: len(cluster.services()) >= 4, "the tree")
    assert len(cluster.client.get("/instances/f-1/processes")) >= 3
    cluster.act("f-1", "stop")
    assert cluster.services() == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"entrypoint": "no-such-program"}, "no-such-program is neither in the package nor on this node's PATH"),
        ({"args": ["${NOBODY}"]}, "args[0]: ${NOBODY} is not known here"),
        ({"hooks": {"pre_start": ["sh", "-c", "echo no luck; exit 3"]}}, "pre_start: ended with 3: no luck"),
        ({"user": "nobody-of-that-name"}, "this node has no such user"),
    ],
)
def test_what_cannot_start_says_why(cluster: Cluster, fields: dict[str, Any], said: str) -> None:
    cluster.upload("sleeper", **{"restart": "never", **fields})
    task = cluster.ended(cluster.deploy("s/x", "sleeper:1.0.0", wait=False))
    assert task["state"] == "failed"
    assert said in task["error"]


def test_a_failed_upgrade_leaves_the_old_version_running(cluster: Cluster) -> None:
    cluster.upload("sleeper", "1.0.0")
    cluster.upload("sleeper", "2.0.0", entrypoint="no-such-program")
    cluster.deploy("s/u", "sleeper:1.0.0")
    pid = cluster.instance("u-1")["pid"]
    task = cluster.ended(cluster.act("s/u", "upgrade", version="2.0.0", wait=False))
    assert task["state"] == "failed"
    assert "the old version runs on" in task["error"]
    assert "no-such-program is neither in the package nor on this node's PATH" in task["error"]
    found = cluster.instance("u-1")
    assert (found["state"], found["pid"], found["version"]) == ("running", pid, "1.0.0")
    assert cluster.client.get("/systems/s/modules/u")["version"] == "1.0.0"
    with pytest.raises(Conflict, match="no earlier version"):
        cluster.act("s/u", "rollback")


def test_logs_over_the_link(cluster: Cluster) -> None:
    lines = 30_000
    cluster.upload("flood", env={"LINES": str(lines)}, log_paths={"own": "logs/own.log", "evil": "evil"})
    cluster.deploy("s/l", "flood:1.0.0")

    def text(**query: Any) -> bytes:
        return bytes(cluster.client.request("GET", "/instances/l-1/logs/app.log", query=query).data)

    wait_until(lambda: b"flood is over" in text(tail=1), "the flood")
    assert text(tail=3).splitlines()[0] == b"line %08d" % (lines - 2)
    whole = text(download=True).splitlines()
    assert whole == [b"line %08d" % n for n in range(lines)] + [b"flood is over"]
    answer = cluster.client.request("GET", "/instances/l-1/logs/app.log", query={"offset": 14, "limit": 14})
    assert answer.data == b"line 00000001\n"
    assert answer.headers["X-Log-Next"] == "28"
    assert len(text(tail=10_000).splitlines()) == 10_000
    with pytest.raises(NotFound, match="there is no log nothing"):
        cluster.client.request("GET", "/instances/l-1/logs/nothing")
    release = next((cluster.work_dir() / "instances" / "s").glob("*/current")).resolve()
    (release / "evil").symlink_to("/etc/passwd")
    with pytest.raises(GdosError, match="leads out of"):
        cluster.client.request("GET", "/instances/l-1/logs/evil")
    names = [f["name"] for f in cluster.client.get("/instances/l-1/logs")]
    assert names == ["app.log", "evil"]


def test_metrics_of_node_and_instance(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/m", "sleeper:1.0.0")
    found = wait_until(lambda: cluster.instance("m-1")["metrics"], "a sample")
    assert found["rss"] > 1 << 20
    assert found["processes"] == 1
    node = wait_until(lambda: (cluster.node("w1") or {})["metrics"], "a sample")
    assert 0 <= node["cpu"] <= 1
    assert node["memory_total"] == pytest.approx(psutil.virtual_memory().total, rel=1e-6)

    def series() -> list[float]:
        points = cluster.client.get("/instances/m-1/metrics", range=60)["points"]["rss"]
        return [p for p in points if p is not None]

    wait_until(lambda: len(series()) >= 2, "two samples in the ring")
    text = urllib3.request("GET", f"{cluster.url}/metrics", headers=auth(cluster)).data.decode()
    assert 'gdos_instance_rss{instance="m-1",module="m",node="w1",system="s"}' in text


def auth(cluster: Cluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.client._token}"}


def test_data_folders_survive_an_upgrade(cluster: Cluster) -> None:
    for version in ("1", "2"):
        cluster.upload("sleeper", version, data_dirs=["state/db"])
    cluster.deploy("s/d", "sleeper:1")
    release = next((cluster.work_dir() / "instances" / "s").glob("*/current"))
    (release.resolve() / "state" / "db" / "row").write_text("kept")
    cluster.act("s/d", "upgrade", version="2")
    assert (release.resolve() / "state" / "db" / "row").read_text() == "kept"


def test_placement_spreads_and_explains(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=2)
    cluster.upload("sleeper")
    cluster.deploy("s/p", "sleeper:1.0.0", count=4)
    nodes = [i["node"] for i in cluster.instances()]
    assert sorted(nodes) == ["w1", "w1", "w2", "w2"]
    cluster.client.post("/systems/s/actions", {"action": "destroy"})
    wait_until(lambda: not cluster.instances(), "all to be gone")


def test_a_worker_decides_what_is_allowed_on_it(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=0)
    cluster.start_worker("w1", "--allow", "terminal")
    cluster.upload("sleeper")
    with pytest.raises(Conflict, match=r"does not allow deploy \(--allow terminal\)"):
        cluster.deploy("s/x", "sleeper:1.0.0", node="w1")


def test_nodes_can_be_renamed_labelled_and_removed(cluster: Cluster) -> None:
    node = cluster.client.call("PATCH", "/nodes/w1", body={"name": "edge-1", "labels": {"zone": "a"}})
    assert (node["name"], node["labels"]) == ("edge-1", {"zone": "a"})
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0", node="edge-1")
    with pytest.raises(Conflict, match="still has 1 instances"):
        cluster.client.call("DELETE", "/nodes/edge-1")
    cluster.act("s/x", "destroy")
    cluster.client.call("DELETE", "/nodes/edge-1")
    assert cluster.client.all("/nodes") == []
    wait_until(lambda: "was removed from the master" in cluster.workers["w1"].text(), "the worker to say it")


def test_a_dead_node_can_be_removed_with_its_records(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("--offline-threshold", "2s")
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    with pytest.raises(Conflict, match="is online: destroy its instances"):
        cluster.client.call("DELETE", "/nodes/w1", query={"force": True})
    cluster.workers["w1"].kill()
    cluster.wait_node("w1", "offline")
    task = cluster.act("x-1", "stop", wait=False)
    cluster.client.call("DELETE", "/nodes/w1", query={"force": True})
    assert cluster.instances() == []
    assert cluster.ended(task)["error"].endswith("the node w1 was removed")
    assert len(cluster.services()) == 1  # what runs there is not touched


def test_a_node_speaks_for_its_own_instances_only(make_cluster: Callable[..., Cluster]) -> None:
    import websocket

    from gdos.cli.client import Client
    from gdos.wire import codec
    from gdos.wire import messages as m

    cluster = make_cluster()
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    victim = cluster.instance("x-1")
    joined = Client(cluster.url, cluster.join_token()).post("/join", {"name": "thief"})
    url = cluster.url.replace("http", "ws") + "/ws/worker"
    link = websocket.create_connection(url, header=[f"Authorization: Bearer {joined['credential']}"], timeout=10)
    hello = m.Hello(protocol=1, version="0", run="r", epoch="e", revision=0, work_dir="/", hostname="h", facts={})
    link.send(codec.encode(hello))
    assert b"Welcome" in link.recv().encode()
    lie = m.Report(seq=1, at=1, instance=victim["id"], state="failed", revision=999, reason="lie", is_gone=True)
    link.send(codec.encode(m.Reports(items=[lie])))
    link.send(codec.encode(m.Sample(at=1, host=[0.5] * 13, instances={victim["id"]: [77.0] * 7})))
    wait_until(lambda: (cluster.node("thief") or {})["metrics"], "its own sample")
    link.close()
    found = cluster.instance("x-1")
    assert (found["state"], found["reason"]) == (victim["state"], victim["reason"])
    assert (found["metrics"] or {}).get("cpu") != 77.0


def test_sigterm_does_not_wait_for_followers_and_stalled_uploads(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    auth_line = f"Authorization: Bearer {cluster.client._token}\r\n"
    stalled = [
        f"POST /api/v1/packages HTTP/1.1\r\nHost: x\r\n{auth_line}Content-Length: 1000\r\n\r\nhalf",
        f"GET /api/v1/instances/x-1/logs/app.log?offset=99999&wait=30 HTTP/1.1\r\nHost: x\r\n{auth_line}\r\n",
    ]
    sockets = [socket.create_connection(("127.0.0.1", cluster.port)) for _ in stalled * 20]
    for s, text in zip(sockets, stalled * 20, strict=True):
        s.sendall(text.encode())
    assert cluster.client.get("/me")["name"] == "admin"  # the API has threads of its own
    assert cluster.workers["w1"].stop() == 0
    assert cluster.master is not None
    assert cluster.master.stop() == 0
    for s in sockets:
        s.close()


def test_sigterm_ends_both_cleanly_and_services_live_on(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    pid = cluster.instance("x-1")["pid"]
    assert cluster.workers["w1"].stop() == 0
    assert cluster.master is not None
    assert cluster.master.stop() == 0
    assert psutil.pid_exists(pid)
    assert not (Path(cluster.env["XDG_STATE_HOME"]) / "gdos" / "masters" / f"{cluster.port}.json").exists()
