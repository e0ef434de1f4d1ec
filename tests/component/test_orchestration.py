"""Whole systems: in order and through gates, upgraded in batches and brought back, planned, applied from a file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdos.model.errors import BadInput, Conflict, GdosError
from tests.component.test_lifecycle import free_port
from tests.kit.cluster import Cluster
from tests.kit.wait import wait_until

READY = {"readiness_type": "log", "readiness_target": "ready now", "readiness_timeout": 20, "restart": "never"}


def trace(cluster: Cluster) -> Path:
    return cluster.folder / "trace"


def lines(cluster: Cluster, *words: str) -> list[str]:
    """What the services have written down, in order: only these words."""
    path = trace(cluster)
    found = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in found if line.split()[0] in words]


def plan(cluster: Cluster, name: str, *after: Any, count: int = 1, **env: str) -> None:
    """A module of the system `s` that runs tests/apps/late.py."""
    body = {"name": name, "package": "late", "version": "1.0.0", "depends_on": list(after)}
    config = {"config": {"env": {"TRACE": str(trace(cluster)), **env}}}
    cluster.client.post("/systems/s/modules", {**body, **config, "count": count})


def diamond(cluster: Cluster) -> None:
    """web needs api and jobs, both need db."""
    cluster.upload("late", **READY)
    cluster.client.post("/systems", {"name": "s"})
    plan(cluster, "db", LATE="0.5")
    plan(cluster, "api", "db", count=2)
    plan(cluster, "jobs", "db")
    plan(cluster, "web", "api", "jobs")
    nodes = sorted(cluster.workers)
    for number, name in enumerate(("db", "api", "api", "jobs", "web")):
        cluster.deploy(f"s/{name}", node=nodes[number % len(nodes)], run=False)


def act(cluster: Cluster, action: str, **more: Any) -> dict[str, Any]:
    return dict(cluster.client.post("/systems/s/actions", {"action": action, **more}))


def test_a_system_starts_in_order_and_stops_in_reverse(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=3)
    diamond(cluster)
    assert len({i["node"] for i in cluster.instances()}) == 3

    dry = act(cluster, "start", dry_run=True)
    assert (dry["id"], [s["phase"] for s in dry["steps"]]) == ("", ["db", "api", "api", "jobs", "web"])
    assert all("db-1@" in s["waits_for"][0] for s in dry["steps"][1:4])
    assert cluster.services() == []  # nothing was done

    task = cluster.done(act(cluster, "start"))
    assert [s["state"] for s in task["steps"]] == ["succeeded"] * 5
    order = lines(cluster, "begin", "up")
    assert order[:2] == ["db-1", "db-1"]  # up before anything else began
    assert order[-2:] == ["web-1", "web-1"]
    trace(cluster).unlink()

    cluster.done(act(cluster, "stop"))
    down = lines(cluster, "down")
    assert (down[0], down[-1]) == ("web-1", "db-1")
    assert {i["state"] for i in cluster.instances()} == {"stopped"}
    trace(cluster).unlink()

    cluster.done(act(cluster, "start"))
    cluster.done(act(cluster, "restart"))
    whole = [(line.split()[0], line.split()[1]) for line in trace(cluster).read_text().splitlines()]
    restart = whole[whole.index(("down", "web-1")) :]
    assert restart.index(("down", "db-1")) < restart.index(("begin", "db-1"))
    assert restart.index(("up", "db-1")) < restart.index(("begin", "api-1"))
    assert [w for w in restart if w[0] != "down"][-1] == ("up", "web-1")


def test_what_fails_stops_what_depends_on_it(cluster: Cluster) -> None:
    diamond(cluster)
    cluster.client.call("PATCH", "/systems/s/modules/jobs/values", body={"values": {"BROKEN": "3"}})
    task = cluster.ended(act(cluster, "start"))
    assert task["state"] == "failed"
    steps = {s["target"].split("@")[0]: s for s in task["steps"]}
    assert {n: s["state"] for n, s in steps.items()} == {
        "db-1": "succeeded", "api-1": "succeeded", "api-2": "succeeded", "jobs-1": "failed", "web-1": "cancelled",
    }  # fmt: skip
    assert steps["web-1"]["message"].startswith("not done: jobs-1@w1 failed: exited with code 3")
    assert "jobs-1@w1: exited with code 3" in task["error"]
    assert "web-1" not in lines(cluster, "begin")


def test_gates(cluster: Cluster) -> None:
    port = free_port()
    cluster.upload("web", "1.0.0")
    cluster.upload("late", **READY)
    cluster.upload("exiter", "1.0.0", name="migrate", kind="job", env={"EXIT_CODE": "0"})
    cluster.client.post("/systems", {"name": "s"})
    body = {"name": "srv", "package": "web", "version": "1.0.0", "config": {"env": {"PORT": str(port), "LATE": "0.5"}}}
    cluster.client.post("/systems/s/modules", body)
    cluster.client.post("/systems/s/modules", {"name": "migrate", "package": "migrate", "version": "1.0.0"})
    plan(cluster, "early", {"module": "srv", "gate": "started"})
    plan(cluster, "a", {"module": "srv", "gate": "port", "target": str(port)})
    plan(
        cluster, "b", {"module": "migrate", "gate": "exit 0"}, {"module": "srv", "gate": "log", "target": "^listening"}
    )
    plan(cluster, "never", {"module": "srv", "gate": "log", "target": "no such line", "timeout": 1})
    for name in ("srv", "migrate", "early", "a", "b", "never"):
        cluster.deploy(f"s/{name}", run=False)
    task = cluster.ended(act(cluster, "start"))
    states = {s["target"].split("@")[0]: (s["state"], s["message"]) for s in task["steps"]}
    assert {n: s for n, (s, _) in states.items() if n != "never-1"} == dict.fromkeys(
        ("srv-1", "migrate-1", "early-1", "a-1", "b-1"), "succeeded"
    )
    said = "not done: the gate `log no such line` of srv-1@w1 did not open within 1 s"
    assert states["never-1"] == ("cancelled", said)


def test_a_task_can_be_paused_resumed_and_cancelled(cluster: Cluster) -> None:
    diamond(cluster)
    task = cluster.client.post("/systems/s/actions", {"action": "start"})
    paused = cluster.client.post(f"/tasks/{task['id']}/pause")
    assert paused["is_paused"]
    cluster.wait_state("db-1", "running")
    assert cluster.client.get(f"/tasks/{task['id']}")["finished_at"] is None
    cluster.workers["w1"].kill()
    cluster.kill_master()  # a paused task is a paused task after any death
    cluster.start_master()
    cluster.start_worker("w1")
    assert lines(cluster, "begin") == ["db-1"]
    cluster.client.post(f"/tasks/{task['id']}/resume")
    assert cluster.ended(task)["state"] == "succeeded"
    assert "web-1" in lines(cluster, "up")

    cluster.client.call("PATCH", "/systems/s/modules/web/values", body={"values": {"LATE": "20"}})
    cluster.done(act(cluster, "stop"))
    task = act(cluster, "start")
    cluster.wait_state("db-1", "running")
    cancelled = cluster.client.post(f"/tasks/{task['id']}/cancel")
    assert cancelled["state"] == "cancelled"
    with pytest.raises(Conflict, match="has ended already"):
        cluster.client.post(f"/tasks/{task['id']}/resume")


def test_circles_are_named_and_what_is_depended_on_stays(cluster: Cluster) -> None:
    cluster.upload("late", **READY)
    cluster.client.post("/systems", {"name": "s"})
    plan(cluster, "a")
    plan(cluster, "b", "a")
    plan(cluster, "c", "b")
    with pytest.raises(BadInput, match="in a circle: a -> c -> b -> a"):
        cluster.client.call("PATCH", "/systems/s/modules/a", body={"depends_on": ["c"]})
    with pytest.raises(Conflict, match="b depend on the module a"):
        cluster.client.call("DELETE", "/systems/s/modules/a")
    with pytest.raises(BadInput, match="expected"):
        cluster.client.call("PATCH", "/systems/s/modules/a", body={"depends_on": [{"module": "b", "gate": "open"}]})


# --- upgrades


def fleet(cluster: Cluster, count: int = 4, **strategy: Any) -> None:
    """`count` instances of m, version 1; version 2 is good, version 3 dies on w2."""
    for version in ("1", "2"):
        cluster.upload("late", version, **READY)
    bad = "test $GDOS_NODE = w2 && exit 5; exec python3 -u app.py"
    cluster.upload("late", "3", **{**READY, "entrypoint": "sh", "args": ["-c", bad]})
    cluster.client.post("/systems", {"name": "s"})
    body = {"name": "m", "package": "late", "version": "1", "strategy": {"min_healthy": 0.5, **strategy}}
    env = {"config": {"env": {"TRACE": str(trace(cluster))}}}
    cluster.client.post("/systems/s/modules", {**body, **env})
    cluster.deploy("s/m", count=count)


def versions(cluster: Cluster) -> list[str]:
    return sorted(i["version"] for i in cluster.instances())


def test_an_upgrade_goes_in_batches_after_a_check_everywhere(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=2)
    fleet(cluster, canary=1, batch="50%")
    dry = cluster.act("s/m", "upgrade", version="2", wait=False, dry_run=True)
    phases = [s["phase"] for s in dry["steps"]]
    assert phases == ["check"] * 4 + ["canary"] + ["batch 2"] * 2 + ["batch 3"]
    assert versions(cluster) == ["1"] * 4
    task = cluster.act("s/m", "upgrade", version="2")
    assert versions(cluster) == ["2"] * 4
    assert {s["message"] for s in task["steps"][4:]} == {"healthy for 0.5 s"}
    ends = [s["finished_at"] for s in task["steps"]]
    assert max(ends[:4]) <= ends[4] <= min(ends[5:7]) <= ends[7]
    cluster.act("s/m", "rollback")
    assert versions(cluster) == ["1"] * 4


def test_a_failing_version_takes_all_back_that_it_touched(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=2)
    fleet(cluster, batch="1")
    before = {i["name"]: i["pid"] for i in cluster.instances()}
    on_w1 = {i["name"] for i in cluster.instances() if i["node"] == "w1"}
    task = cluster.ended(cluster.act("s/m", "upgrade", version="3", wait=False))
    assert task["state"] == "failed"
    assert "rolled back" in task["error"]
    assert "exited with code 5" in task["error"]
    assert versions(cluster) == ["1"] * 4
    assert {i["state"] for i in cluster.instances()} == {"running"}
    module = cluster.client.get("/systems/s/modules/m")
    assert (module["version"], module["previous_version"]) == ("1", None)
    back = [s for s in task["steps"] if s["phase"] == "roll back"]
    touched = [s for s in task["steps"] if s["name"] == "upgrade" and s["state"] in ("succeeded", "failed")]
    assert len(back) == len(touched)
    assert all(s["state"] == "succeeded" for s in back)
    untouched = {s["target"].split("@")[0] for s in task["steps"] if s["state"] == "cancelled"}
    assert untouched
    assert all(cluster.instance(n)["pid"] == before[n] for n in untouched)
    assert on_w1
    reasons = [e["reason"] for e in cluster.client.get(f"/instances/{touched[0]['target'].split('@')[0]}/timeline")]
    assert any("it goes back to 1" in r for r in reasons)


def test_on_failure_stop_leaves_it_where_it_is(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=2)
    fleet(cluster, count=2, on_failure="stop")
    task = cluster.ended(cluster.act("s/m", "upgrade", version="3", wait=False))
    assert task["state"] == "failed"
    assert not [s for s in task["steps"] if s["phase"] == "roll back"]
    assert "3" in versions(cluster)
    cluster.act("s/m", "upgrade", version="2")
    assert versions(cluster) == ["2", "2"]


def test_a_version_that_dies_while_on_trial_is_not_healthy(cluster: Cluster) -> None:
    cluster.upload("sleeper", "1")
    cluster.upload("sleeper", "2", entrypoint="sh", args=["-c", "sleep 0.7; exit 6"], restart_delay=0.05)
    cluster.deploy("s/m", "sleeper:1")
    task = cluster.ended(cluster.act("s/m", "upgrade", version="2", strategy={"min_healthy": 3}, wait=False))
    assert task["state"] == "failed"
    assert "did not stay healthy: exited with code 6" in task["error"]
    assert (cluster.instance("m-1")["version"], cluster.instance("m-1")["state"]) == ("1", "running")


def test_after_the_way_back_the_version_before_is_the_one_before_that(cluster: Cluster) -> None:
    for version in ("1", "2"):
        cluster.upload("sleeper", version)
    cluster.upload("sleeper", "3", entrypoint="sh", args=["-c", "exit 6"], restart="never")
    cluster.deploy("s/m", "sleeper:1")
    quick = {"min_healthy": 0.3}
    cluster.act("s/m", "upgrade", version="2", strategy=quick)
    for _ in range(2):  # asking again for what has failed takes nothing further back
        task = cluster.ended(cluster.act("s/m", "upgrade", version="3", strategy=quick, wait=False))
        assert task["state"] == "failed"
        found = cluster.instance("m-1")
        assert (found["version"], found["previous_version"], found["state"]) == ("2", "1", "running")
    module = cluster.client.get("/systems/s/modules/m")
    assert (module["version"], module["previous_version"]) == ("2", "1")
    cluster.act("s/m", "rollback")
    assert cluster.instance("m-1")["version"] == "1"
    again = cluster.act("s/m", "upgrade", version="1", strategy=quick)
    assert again["state"] == "succeeded"


def test_a_manual_canary_waits_for_a_person(cluster: Cluster) -> None:
    fleet(cluster, count=3, canary=1, promote="manual", batch="all")
    task = cluster.act("s/m", "upgrade", version="2", wait=False)

    def look() -> Any:
        now = cluster.client.get(f"/tasks/{task['id']}")
        return now if now["is_paused"] else None

    waiting = wait_until(look, "the canary")
    assert "the canary is healthy" in waiting["note"]
    assert versions(cluster) == ["1", "1", "2"]
    cluster.client.post(f"/tasks/{task['id']}/resume")
    assert cluster.ended(task)["state"] == "succeeded"
    assert versions(cluster) == ["2"] * 3


def test_stopping_makes_no_version_and_upgrading_starts_nothing(cluster: Cluster) -> None:
    fleet(cluster, count=2)
    cluster.act("s/m", "stop")
    module = cluster.client.get("/systems/s/modules/m")
    assert (module["version"], module["previous_version"]) == ("1", None)
    cluster.act("s/m", "upgrade", version="2")
    assert {(i["version"], i["state"]) for i in cluster.instances()} == {("2", "stopped")}
    assert cluster.services() == []
    cluster.act("s/m", "start")
    assert {i["state"] for i in cluster.instances()} == {"running"}


def test_a_newer_task_supersedes_what_an_older_one_has_not_done(cluster: Cluster) -> None:
    diamond(cluster)
    cluster.client.call("PATCH", "/systems/s/modules/db/values", body={"values": {"LATE": "5"}})
    start = act(cluster, "start")
    wait_until(lambda: lines(cluster, "begin") == ["db-1"], "the first to begin")
    cluster.done(act(cluster, "stop"))
    ended = cluster.ended(start)
    assert ended["state"] == "cancelled"
    assert "superseded by stop" in ended["error"]
    assert cluster.services() == []


# --- placement


def test_placement_follows_labels_and_says_why(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=3)
    for name, zone in (("w1", "a"), ("w2", "b"), ("w3", "b")):
        cluster.client.call("PATCH", f"/nodes/{name}", body={"labels": {"zone": zone}})
    cluster.upload("sleeper")
    cluster.client.post("/systems", {"name": "s"})
    body = {"name": "m", "package": "sleeper", "version": "1.0.0", "placement": {"labels": {"zone": "b"}}}
    cluster.client.post("/systems/s/modules", body)
    task = cluster.deploy("s/m", count=2)
    assert sorted(i["node"] for i in cluster.instances()) == ["w2", "w3"]
    assert "w1 ruled out: w1 has zone=a, zone=b is asked for" in task["note"]
    assert "chosen: 0 of this module" in task["note"]
    cluster.client.call("PATCH", "/systems/s/modules/m", body={"placement": {"labels": {"zone": "c"}}})
    with pytest.raises(Conflict, match="no node can take sleeper: w1 has zone=a, zone=c is asked for; w2 has"):
        cluster.deploy("s/m")
    said = cluster.run_cli("deploy", "s/new", "--package", "sleeper:1.0.0", "--dry-run", code=5)
    assert "has no module new" in said
    assert "nothing was done" in cluster.run_cli("deploy", "s/m", "--node", "w2", "--dry-run")
    dry = cluster.client.post("/instances", {"module": "s/m", "node": "w1", "dry_run": True})
    assert dry["steps"][0]["target"] == "m-3@w1"
    assert len(cluster.instances()) == 2


# --- configuration


def test_values_have_levels_history_and_secrets(cluster: Cluster) -> None:
    cluster.upload(
        "sleeper", name="env", args=["-c", "import os,time;print(dict(os.environ),flush=True);time.sleep(999)"]
    )
    cluster.plan("s/m", "env:1.0.0")
    change = cluster.client.call("PATCH", "/systems/s/values", body={"values": {"A": "system", "B": "system"}})
    assert change["number"] == 1
    secret = "hunter2-" + os.urandom(4).hex()
    cluster.client.call(
        "PATCH", "/systems/s/modules/m/values", body={"values": {"B": "module"}, "secrets": {"PW": secret}}
    )
    cluster.deploy("s/m", env={"C": "instance"})
    found = cluster.client.get("/instances/m-1/values")
    holds = {v["name"]: (v["value"], v["origin"]) for v in found["effective"]}
    assert holds == {
        "A": ("system", "system"),
        "B": ("module", "module"),
        "C": ("instance", "instance"),
        "PW": (None, "module"),
    }

    def log() -> str:
        return str(cluster.client.request("GET", "/instances/m-1/logs/app.log", query={"tail": 1}).data.decode())

    wait_until(lambda: f"'PW': '{secret}'" in log(), "its environment")
    assert "'B': 'module'" in log()

    # at rest it is in no file of the master but as ciphertext, and in no answer and no log
    for path in (cluster.folder / "master").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert secret not in cluster.folder.joinpath("master.log").read_text()
    assert secret not in str(cluster.client.all("/audit"))
    key = next((cluster.folder / "master").glob("*.key"))
    assert key.stat().st_mode & 0o777 == 0o600

    cluster.client.call("PATCH", "/systems/s/modules/m/values", body={"values": {"B": "again"}, "unset": ["PW"]})
    wait_until(lambda: cluster.instance("m-1")["is_stale"], "the running one to be known as stale")
    history = cluster.client.get("/systems/s/modules/m/values/history")["items"]
    assert [h["number"] for h in history] == [2, 1]
    changes = {c["name"]: (c["kind"], c["before"], c["after"]) for c in history[0]["changes"]}
    assert changes == {"B": ("changed", "module", "again"), "PW": ("removed", None, None)}
    assert cluster.client.get("/systems/s/modules/m/values/diff", old=2, new=1)[0]["after"] == "module"
    cluster.client.post("/systems/s/modules/m/values/revert", {"number": 1})
    cluster.act("m-1", "restart")
    wait_until(lambda: f"'PW': '{secret}'" in log(), "the secret again")
    with pytest.raises(BadInput, match="has no value NOPE of its own; it has: A, B"):
        cluster.client.call("PATCH", "/systems/s/values", body={"unset": ["NOPE"]})


def test_a_lost_key_stops_the_start_with_a_sentence(cluster: Cluster) -> None:
    cluster.client.post("/systems", {"name": "s"})
    cluster.client.call("PATCH", "/systems/s/values", body={"secrets": {"PW": "x"}})
    cluster.workers["w1"].kill()
    cluster.kill_master()
    key = next((cluster.folder / "master").glob("*.key"))
    text = key.read_text()
    key.unlink()
    with pytest.raises(AssertionError, match=r"the key .* is missing"):
        cluster.start_master()
    key.write_text("00" * 32)
    with pytest.raises(AssertionError, match="does not fit the secrets of this database"):
        cluster.start_master()
    key.write_text(text)
    cluster._starts["master"] = 1
    cluster.start_master()


# --- system files


FILE = """
system: shop
description: The web shop
values: {TRACE: "%(trace)s", LEVEL: info}
secrets: {PW: {env: SHOP_PW}}
modules:
  db:
    package: late:1.0.0
    nodes: [w1]
  web:
    package: late:1.0.0
    count: 2
    depends_on: [db]
    values: {PORT: 8080}
    strategy: {min_healthy: 0.2}
"""


def test_a_system_file_is_planned_applied_changed_and_exported(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=2)
    for version in ("1.0.0", "2.0.0"):
        cluster.upload("late", version, **READY)
    path = cluster.folder / "shop.yaml"
    path.write_text(FILE % {"trace": trace(cluster)})
    said = cluster.run_cli("plan", "-f", str(path), code=2)
    assert "secrets.PW: env SHOP_PW: is not set here" in said
    env = {"SHOP_PW": "s3cr3t"}
    out = cluster.run_cli("plan", "-f", str(path), env=env)
    assert "+ modules.db.db-1: w1" in out
    assert "3 steps; nothing was done" in out
    assert "deploy web-1@" in out
    assert "after db-1@w1" in out
    assert cluster.client.all("/systems") == []

    out = cluster.run_cli("apply", "-f", str(path), "--wait", env=env)
    assert "apply shop: succeeded" in out
    assert lines(cluster, "up")[0] == "db-1"
    assert [(i["name"], i["state"]) for i in cluster.instances()] == [
        ("db-1", "running"),
        ("web-1", "running"),
        ("web-2", "running"),
    ]
    pids = {i["name"]: i["pid"] for i in cluster.instances()}
    assert "nothing to change" in cluster.run_cli("apply", "-f", str(path), env=env)
    assert {i["name"]: i["pid"] for i in cluster.instances()} == pids

    exported = cluster.run_cli("export", "shop")
    assert "s3cr3t" not in exported
    again = cluster.folder / "again.yaml"
    again.write_text(exported)
    assert "nothing to change" in cluster.run_cli("plan", "-f", str(again))
    assert yaml.safe_load(exported)["secrets"] == {"PW": {"keep": True}}

    file = yaml.safe_load(exported)
    file["modules"]["web"] |= {"package": "late:2.0.0", "count": 3}
    file["modules"]["db"]["values"] = {"LEVEL": "debug"}
    again.write_text(yaml.safe_dump(file))
    out = cluster.run_cli("plan", "-f", str(again))
    assert "~ modules.web.version: 1.0.0 -> 2.0.0" in out
    assert "! modules.db: db-1" in out
    assert "+ modules.web.web-3" in out
    cluster.run_cli("apply", "-f", str(again), "--wait")
    assert {i["name"]: i["version"] for i in cluster.instances()} == {
        "db-1": "1.0.0",
        "web-1": "2.0.0",
        "web-2": "2.0.0",
        "web-3": "2.0.0",
    }
    assert cluster.instance("db-1")["pid"] != pids["db-1"]

    file["modules"]["web"]["count"] = 1
    del file["modules"]["web"]["depends_on"]
    del file["modules"]["db"]
    again.write_text(yaml.safe_dump(file))
    assert "modules.db is not in the file and stays" in cluster.run_cli("plan", "-f", str(again))
    cluster.run_cli("apply", "-f", str(again), "--prune", "--wait")
    assert [i["name"] for i in cluster.instances()] == ["web-1"]
    cluster.run_cli("apply", "-f", str(again), "--prune", "--wait")
    assert [m["name"] for m in cluster.client.all("/systems/shop/modules")] == ["web"]


def test_an_applied_value_reaches_what_is_not_running(cluster: Cluster) -> None:
    """A job that is done is not restarted, but its next run must have the new value."""
    cluster.upload("exiter", "1", name="job", kind="job", restart="never", env={"EXIT_CODE": "${CODE}"})
    path = cluster.folder / "jobs.yaml"
    for code in ("0", "4"):
        module = {"package": "job:1", "values": {"CODE": code}}
        path.write_text(yaml.safe_dump({"system": "s", "modules": {"j": module}}))
        cluster.run_cli("apply", "-f", str(path), "--wait")
        cluster.wait_state("j-1", "completed")
    (record,) = cluster.work_dir().glob("wanted.json")
    wait_until(lambda: b'"CODE":"4"' in record.read_bytes(), "the node to know it")
    cluster.act("j-1", "run", wait=False)
    assert cluster.wait_state("j-1", "failed")["reason"] == "exited with code 4"


def test_a_system_file_with_mistakes_says_all_of_them(cluster: Cluster) -> None:
    path = cluster.folder / "bad.yaml"
    mistakes = "  a: {package: nonsense, count: -1}\n  b: {depends_on: [ghost]}\n  c: {colour: red}\n"
    path.write_text(f"system: bad name\nmodules:\n{mistakes}")
    said = cluster.run_cli("plan", "-f", str(path), code=2)
    for part in (
        "system: expected",
        "modules.a.package: expected a package such as",
        "modules.a.count",
        "modules.c.colour",
    ):
        assert part in said
    path.write_text(
        "system: s\nmodules:\n  a: {package: 'x:1', depends_on: [b]}\n  b: {package: 'x:1', depends_on: [a]}\n"
    )
    assert "in a circle: a -> b -> a" in cluster.run_cli("plan", "-f", str(path), code=2)
    path.write_text("system: s\nsystem: t\n")
    assert "stands there twice" in cluster.run_cli("plan", "-f", str(path), code=2)
    path.write_text("system: s\nmodules:\n  a: {package: 'ghost:1'}\n")
    assert "there is no package ghost" in cluster.run_cli("apply", "-f", str(path), code=2)
    assert cluster.client.all("/systems") == []


# --- why


def test_why_gives_a_verdict_and_what_led_to_it(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("--offline-threshold", "2s")
    cluster.upload("exiter", name="crash", restart_delay=30, env={"EXIT_CODE": "3"})
    cluster.upload("sleeper")
    cluster.deploy("s/crash", "crash:1.0.0", wait=False)
    cluster.wait_state("crash-1", "backoff")
    out = cluster.run_cli("why", "crash-1")
    assert out.splitlines()[0].startswith("s/crash-1: crashes: exited with code 3; started again in")
    assert "its log ended with: about to end" in out
    cluster.deploy("s/x", "sleeper:1.0.0")

    def verdict() -> str:
        return str(cluster.client.get("/instances/x-1/why")["verdict"])

    assert "s/x-1: running for" in verdict()
    cluster.client.call("PATCH", "/systems/s/values", body={"values": {"A": "1"}})
    wait_until(lambda: "its configuration was changed since it was started" in verdict(), "the change")
    os.kill(cluster.instance("x-1")["pid"], signal.SIGKILL)
    wait_until(lambda: "after 1 exit within the last hour (the last: ended by SIGKILL)" in verdict(), "the exit")
    cluster.act("x-1", "stop")
    assert "s/x-1: stopped on purpose by admin" in verdict()
    cluster.workers["w1"].kill()
    cluster.wait_node("w1", "offline")
    assert "s/x-1: unknown: its node w1 is offline, silent for" in verdict()
    cluster.start_worker("w1")
    kinds = [e["kind"] for e in cluster.client.get("/instances/x-1/why", limit=100)["timeline"]]
    assert {"node offline", "node online", "exit", "config", "stop", "deploy"} <= set(kinds)
    with pytest.raises(GdosError, match="there is no instance nobody"):
        cluster.client.get("/instances/nobody/why")
