"""service.json in full: hooks, liveness, templates, limits, schedules, the record of each run, rotation and quotas."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from gdos.model.errors import Conflict
from gdos.model.manifest import Limits
from gdos.worker.platform.cgroups import Cgroups
from tests.component.test_lifecycle import free_port
from tests.conftest import need
from tests.kit.cluster import Cluster
from tests.kit.wait import wait_until


def folder_of(cluster: Cluster, name: str = "w1") -> Path:
    return next(p for p in (cluster.work_dir(name) / "instances").glob("*/*") if (p / "instance.json").exists())


def runs(cluster: Cluster, instance: str) -> list[dict[str, Any]]:
    return list(cluster.client.get(f"/instances/{instance}/runs")["items"])


# --- hooks


def say(word: str, code: int = 0) -> list[str]:
    return ["sh", "-c", f"echo {word} $GDOS_HOOK $GDOS_INSTANCE_NAME $GDOS_VERSION >> $GDOS_DATA_DIR/said; exit {code}"]


def test_hooks_are_run_in_their_order_with_the_instances_environment(cluster: Cluster) -> None:
    hooks = {n: say("x") for n in ("pre_start", "post_start", "pre_stop", "post_stop", "pre_upgrade", "post_upgrade")}
    for version in ("1", "2"):
        cluster.upload("sleeper", version, hooks=hooks)
    cluster.deploy("s/h", "sleeper:1")
    said = folder_of(cluster) / "data" / "said"

    def names() -> list[str]:
        return [line.split()[1] for line in said.read_text().splitlines()]

    wait_until(lambda: names() == ["pre_start", "post_start"], "the hooks of a start")
    cluster.act("s/h", "upgrade", version="2", strategy={"min_healthy": 0})
    expected = ["pre_upgrade", "pre_stop", "post_stop", "pre_start"]
    wait_until(lambda: names()[2:6] == expected and sorted(names()[6:]) == ["post_start", "post_upgrade"], "an upgrade")
    assert said.read_text().splitlines()[2] == "x pre_upgrade h-1 2"
    assert "pre_upgrade" in (folder_of(cluster) / "logs" / "hooks.log").read_text()


def test_a_failing_pre_start_hook_keeps_it_from_starting(cluster: Cluster) -> None:
    cluster.upload("sleeper", hooks={"pre_start": ["sh", "-c", "echo no licence; exit 9"]}, restart="never")
    task = cluster.ended(cluster.deploy("s/h", "sleeper:1.0.0", wait=False))
    assert task["state"] == "failed"
    assert "pre_start: ended with 9: no licence" in task["error"]
    assert cluster.services() == []


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(cluster: Cluster) -> None:
    hang = {"pre_start": ["sh", "-c", "sleep 1000 & sleep 1000"]}
    cluster.upload("sleeper", hooks=hang, hook_timeout=1, restart="never")
    task = cluster.ended(cluster.deploy("s/h", "sleeper:1.0.0", wait=False))
    assert "pre_start: did not end within 1 s and was killed" in task["error"]
    assert cluster.services() == []


def test_a_failing_pre_stop_hook_stops_the_stop(cluster: Cluster) -> None:
    cluster.upload(
        "sleeper", hooks={"pre_stop": ["sh", "-c", "test -e $GDOS_DATA_DIR/drained || { echo busy; exit 1; }"]}
    )
    cluster.deploy("s/h", "sleeper:1.0.0")
    pid = cluster.instance("h-1")["pid"]
    task = cluster.ended(cluster.act("h-1", "stop", wait=False))
    assert task["state"] == "failed"
    assert "not stopped, it runs on: pre_stop: ended with 1: busy" in task["error"]
    found = cluster.instance("h-1")
    assert (found["state"], found["pid"]) == ("running", pid)
    (folder_of(cluster) / "data" / "drained").touch()
    cluster.act("h-1", "stop")
    assert not psutil.pid_exists(pid)


def test_a_failing_pre_upgrade_hook_leaves_the_old_version_alone(cluster: Cluster) -> None:
    cluster.upload("sleeper", "1")
    cluster.upload("sleeper", "2", hooks={"pre_upgrade": ["sh", "-c", "echo schema is locked; exit 2"]})
    cluster.deploy("s/h", "sleeper:1")
    pid = cluster.instance("h-1")["pid"]
    task = cluster.ended(cluster.act("s/h", "upgrade", version="2", wait=False))
    assert task["state"] == "failed"
    assert "pre_upgrade: ended with 2: schema is locked" in task["error"]
    found = wait_until(lambda: i if (i := cluster.instance("h-1"))["version"] == "1" else None, "the way back")
    assert found["pid"] == pid


# --- liveness and readiness


def test_a_service_that_hangs_is_restarted(cluster: Cluster) -> None:
    port = free_port()
    probe = {"liveness_type": "http", "liveness_target": f"http://127.0.0.1:{port}/", "liveness_interval": 1}
    cluster.upload("hangs", args=["-u", "app.py", str(port)], liveness_failures=1, restart_delay=0.05, **probe)
    cluster.deploy("s/l", "hangs:1.0.0")
    before = cluster.instance("l-1")["pid"]
    hang = folder_of(cluster) / "data" / "hang"
    hang.touch()
    wait_until(lambda: cluster.instance("l-1")["restarts"] >= 1, "the restart")
    hang.unlink()
    after = cluster.wait_state("l-1", "running")
    assert after["pid"] != before
    reasons = [e["reason"] for e in cluster.client.get("/instances/l-1/timeline")]
    assert any("the liveness probe failed once: " in r and "no answer within 3 s" in r for r in reasons)


def test_a_worker_that_dies_while_it_ends_what_hangs_starts_it_again(cluster: Cluster) -> None:
    probe = {"liveness_type": "exec", "liveness_target": "test ! -e ${GDOS_DATA_DIR}/hang", "liveness_interval": 1}
    cluster.upload("stubborn", stop_timeout=60, liveness_failures=1, restart_delay=0.05, **probe)
    cluster.deploy("s/l", "stubborn:1.0.0")
    before = cluster.instance("l-1")["pid"]
    hang = folder_of(cluster) / "data" / "hang"
    hang.touch()
    cluster.wait_state("l-1", "stopping")
    cluster.workers["w1"].kill()
    psutil.Process(before).kill()
    hang.unlink()
    cluster.start_worker("w1")
    assert cluster.wait_state("l-1", "running")["pid"] not in (None, before)


# --- templates and configuration


def test_templates_are_filled_in_at_each_start(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "templated"
    source.mkdir()
    (source / "app.py").write_text("import time; print(open('conf/app.ini').read(), flush=True); time.sleep(1000)\n")
    (source / "conf").mkdir()
    (source / "conf" / "app.ini").write_text("level=${LEVEL} node=${GDOS_NODE} cost=5$$\npassword=${PASSWORD}\n")
    manifest = {"name": "templated", "version": "1", "entrypoint": "python3", "args": ["app.py"]}
    (source / "service.json").write_text(json.dumps({**manifest, "templates": ["conf/app.ini"], "restart": "never"}))
    from gdos.pack.build import build

    cluster.upload_file(build(source, tmp_path / "t.zip").path)
    task = cluster.ended(cluster.deploy("s/t", "templated:1", wait=False))
    assert "conf/app.ini: ${LEVEL} is not known here" in task["error"]
    cluster.client.call("PATCH", "/systems/s/values", body={"values": {"LEVEL": "info"}})
    cluster.client.call("PATCH", "/systems/s/modules/t/values", body={"secrets": {"PASSWORD": "s3cr3t"}})
    cluster.act("t-1", "start")
    log = folder_of(cluster) / "logs" / "app.log"
    wait_until(lambda: "password" in log.read_text(), "its first lines")
    assert log.read_text().strip() == "level=info node=w1 cost=5$\npassword=s3cr3t"
    cluster.client.call("PATCH", "/instances/t-1/values", body={"values": {"LEVEL": "debug"}})
    wait_until(lambda: cluster.instance("t-1")["is_stale"], "it to be known as stale")
    cluster.act("t-1", "restart")
    wait_until(lambda: "level=debug" in log.read_text(), "the new value")
    assert not cluster.instance("t-1")["is_stale"]


# --- limits


def limited(cluster: Cluster, tmp_path: Path) -> None:
    groups = Cgroups(tmp_path)
    missing = groups.problems(Limits(memory="64M", cpu=0.5, processes=10))
    groups.close()
    need("root", not missing, f"a memory control group that may be written: {missing}")


def test_limits_hold_and_a_death_by_memory_is_named(cluster: Cluster, tmp_path: Path) -> None:
    limited(cluster, tmp_path)
    cluster.upload("leaker", limits={"memory": "48M"}, restart="never")
    cluster.deploy("s/m", "leaker:1.0.0", wait=False)
    found = cluster.wait_state("m-1", "failed")
    assert "out of memory" in found["reason"]
    assert "48M" in found["reason"]
    last = runs(cluster, "m-1")[0]
    assert (last["is_oom"], last["signal"]) == (True, 9)
    assert "out of memory" in cluster.client.get("/instances/m-1/why")["verdict"]


def test_open_files_and_processes_are_limited(cluster: Cluster, tmp_path: Path) -> None:
    limited(cluster, tmp_path)
    code = (
        "import resource, subprocess, sys, time\n"
        "print('files', resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)\n"
        "made = 0\n"
        "try:\n"
        "    while made < 50: subprocess.Popen(['sleep', '1000']); made += 1\n"
        "except OSError as e: print('made', made, e.strerror, flush=True)\n"
        "time.sleep(1000)\n"
    )
    limits = {"open_files": 77, "processes": 8, "cpu": 0.5}
    cluster.upload("sleeper", name="bound", limits=limits, args=["-c", code])
    cluster.deploy("s/b", "bound:1.0.0")
    log = folder_of(cluster) / "logs" / "app.log"
    wait_until(lambda: "made" in log.read_text(), "it to run into its limits")
    text = log.read_text()
    assert "files (77, 77)" in text
    assert int(text.split("made ")[1].split()[0]) < 10
    cluster.act("b-1", "stop")
    assert cluster.services() == []


def test_a_limit_that_cannot_be_held_is_refused_at_deploy(tmp_path: Path) -> None:
    nowhere = Cgroups(tmp_path, root=tmp_path / "sys", own="")
    problems = nowhere.problems(Limits(memory="1G", processes=3))
    assert [p.split(":")[0] for p in problems] == ["limits.memory", "limits.processes"]


def test_version_2_of_control_groups_is_written_as_it_wants(tmp_path: Path) -> None:
    """This machine's controllers are version 1's: the files of version 2 are plain files here."""
    root = tmp_path / "sys"
    cgroups_name = "gdos-"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpu memory pids")
    made = Cgroups.__new__(Cgroups)
    made._name, made._plain = cgroups_name, set()
    made._homes = dict.fromkeys(("", "memory", "cpu", "pids"), root)
    from gdos.worker.platform import cgroups

    group = root / cgroups._group("/x/app-1")
    group.mkdir()
    for name in ("cgroup.events", "cgroup.procs", "memory.max", "memory.swap.max", "cpu.max", "pids.max"):
        (group / name).write_text("")
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    made.limit("/x/app-1", Limits(memory="64M", cpu=1.5))
    written = {p.name: p.read_text() for p in group.iterdir() if p.name.endswith(".max")}
    assert written == {"memory.max": "67108864", "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "max"}
    made.add("/x/app-1", 4242)
    assert made.members("/x/app-1") == [4242]
    assert made.oom_kills("/x/app-1") == 2
    made.limit("/x/app-1", Limits())
    assert (group / "memory.max").read_text() == "max"


# --- jobs and schedules


def test_a_job_keeps_the_history_and_the_log_of_each_run(cluster: Cluster) -> None:
    cluster.upload("exiter", "1", name="job", kind="job", restart="never", env={"EXIT_CODE": "${CODE}"})
    cluster.deploy("s/j", "job:1", wait=False, env={"CODE": "0"})
    cluster.wait_state("j-1", "completed")
    cluster.client.call("PATCH", "/instances/j-1/values", body={"values": {"CODE": "4"}})
    task = cluster.ended(cluster.act("j-1", "run", wait=False))
    assert task["state"] == "failed"
    cluster.wait_state("j-1", "failed")
    second, first = runs(cluster, "j-1")
    assert (first["code"], first["reason"], first["log"]) == (0, "exited with code 0", "run-000001.log")
    assert (second["code"], second["log_tail"], second["log"]) == (4, ["about to end"], "run-000002.log")
    names = {f["name"] for f in cluster.client.get("/instances/j-1/logs")}
    assert {"run-000001.log", "run-000002.log", "app.log"} <= names
    text = cluster.client.request("GET", "/instances/j-1/logs/app.log", query={"tail": 1}).data
    assert text == b"about to end\n"


def test_a_job_that_ends_well_is_a_healthy_upgrade(cluster: Cluster) -> None:
    for version in ("1", "2"):
        cluster.upload("exiter", version, name="job", kind="job", restart="never", env={"EXIT_CODE": "0"})
    cluster.deploy("s/j", "job:1", wait=False)
    cluster.wait_state("j-1", "completed")
    cluster.act("s/j", "upgrade", version="2", strategy={"min_healthy": 1})
    cluster.wait_state("j-1", "completed")
    assert cluster.instance("j-1")["version"] == "2"


def at_next_minute(seconds_before: float = 0.0) -> None:
    """Schedules have minutes: wait for the beginning of one, so that the next is a whole one away."""
    wait_until(lambda: time.time() % 60 < 50, "room before the next minute", 15)


def test_schedules_run_at_their_time_and_when_asked(cluster: Cluster) -> None:
    """One that is short, and two that are still running when their next time comes: all wait for the same minute."""
    cron = {"kind": "cron", "schedule": "* * * * *"}
    cluster.upload("exiter", "1", name="tick", timezone="Asia/Shanghai", env={"EXIT_CODE": "0"}, **cron)
    cluster.upload("sleeper", "1", name="skip", **cron)
    cluster.upload("sleeper", "1", name="allow", overlap="allow", **cron)
    at_next_minute()
    task = cluster.deploy("s/tick", "tick:1")
    assert "waits for its time" in task["steps"][0]["message"]
    found = cluster.instance("tick-1")
    assert (found["state"], found["kind"]) == ("stopped", "cron")
    assert "waits for its time" in cluster.client.get("/instances/tick-1/why")["verdict"]
    due = found["next_run"]
    assert due.endswith(":00.000Z")
    assert runs(cluster, "tick-1") == []
    cluster.act("tick-1", "run")
    asked = runs(cluster, "tick-1")
    assert [(r["due_at"], r["code"]) for r in asked] == [(None, 0)]
    first = {}
    for name in ("skip", "allow"):
        cluster.deploy(f"s/{name}", f"{name}:1")
        cluster.act(f"{name}-1", "run", wait=False)
        first[name] = cluster.wait_state(f"{name}-1", "running")["pid"]

    wait_until(lambda: len(runs(cluster, "tick-1")) == 2, "the run of its time", 70)
    assert runs(cluster, "tick-1")[0]["due_at"] == due
    wait_until(lambda: cluster.instance("tick-1")["next_run"] > due, "the next time")
    skipped = wait_until(lambda: runs(cluster, "skip-1"), "the skipped run")[0]
    assert (skipped["skipped"], skipped["reason"]) == (True, "skipped: the run before goes on")
    assert cluster.instance("skip-1")["pid"] == first["skip"]
    wait_until(lambda: cluster.instance("allow-1")["pid"] not in (None, first["allow"]), "the second run beside it")
    assert psutil.pid_exists(first["allow"])

    cluster.workers["w1"].kill()
    cluster.start_worker("w1")
    psutil.Process(first["allow"]).kill()
    over = wait_until(lambda: runs(cluster, "allow-1"), "the first run to be over")[0]
    assert over["number"] == 1
    assert cluster.instance("allow-1")["state"] == "running"
    cluster.client.post("/systems/s/actions", {"action": "stop"})
    wait_until(lambda: not cluster.services(), "all runs to be stopped")
    wait_until(lambda: cluster.instance("tick-1")["next_run"] is None, "the schedule to be off")


def test_a_schedule_can_be_run_by_hand_after_a_reboot_in_the_middle_of_a_run(cluster: Cluster) -> None:
    cluster.upload("sleeper", "1", name="long", kind="cron", schedule="0 0 1 1 *")
    cluster.deploy("s/c", "long:1")
    cluster.act("c-1", "run", wait=False)
    cluster.wait_state("c-1", "running")
    cluster.workers["w1"].kill()
    cluster.kill_services()
    for path in cluster.work_dir().glob("instances/s/*/instance.json"):
        record = json.loads(path.read_bytes())
        record["handle"]["process"]["boot"] = "another boot"
        path.write_text(json.dumps(record))
    cluster.start_worker("w1")
    assert "the node was restarted" in cluster.wait_state("c-1", "stopped")["reason"]
    assert cluster.services() == []  # a schedule waits for its time, after a reboot too
    cluster.act("c-1", "run", wait=False)
    cluster.wait_state("c-1", "running")


def test_what_was_missed_is_made_up_for_once_or_not_at_all(cluster: Cluster) -> None:
    for name, catch_up in (("lazy", "skip"), ("eager", "once")):
        fields = {"kind": "cron", "schedule": "0 0 1 1 *", "catch_up": catch_up, "env": {"EXIT_CODE": "0"}}
        cluster.upload("exiter", "1", name=name, **fields)
        cluster.deploy(f"s/{name}", f"{name}:1")
    cluster.workers["w1"].kill()
    for path in cluster.work_dir().glob("instances/s/*/instance.json"):
        record = json.loads(path.read_bytes())
        record["last_due"] = 1_600_000_000_000  # years ago: more than one time was missed
        path.write_text(json.dumps(record))
    cluster.start_worker("w1")
    wait_until(lambda: runs(cluster, "eager-1"), "the run that was missed")
    cluster.wait_state("eager-1", "completed")
    assert len(runs(cluster, "eager-1")) == 1
    assert runs(cluster, "lazy-1") == []


# --- rotation while it writes


def test_a_flood_loses_no_line_and_stays_within_its_quota(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=0)
    limits = ["--log-max-size", "1MB", "--log-max-backups", "100"]
    cluster.start_worker("w1", *limits)
    lines = 400_000
    cluster.upload("flood", env={"LINES": str(lines)})
    cluster.deploy("s/f", "flood:1.0.0")
    logs = folder_of(cluster) / "logs"
    pid = cluster.instance("f-1")["pid"]
    wait_until(lambda: b"flood is over" in _end(logs / "app.log"), "the flood", 60)
    wait_until(lambda: len(list(logs.glob("app.log.*.gz"))) >= 1, "a rotated part")
    assert Path(f"/proc/{pid}/fd/1").resolve() == (logs / "app.log").resolve()  # the service still has its own file

    def whole() -> bytes:
        parts = sorted(logs.glob("app.log.[0-9]*"), key=lambda p: -int(p.name.split(".")[2]))
        old = [
            gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()
            for p in parts
            if ".part" not in p.name
        ]
        return b"".join(old) + (logs / "app.log").read_bytes().lstrip(b"\0")

    expected = b"".join(b"line %08d\n" % n for n in range(lines)) + b"flood is over\n"
    wait_until(lambda: not list(logs.glob("*.part")), "the rotation to be over")
    assert whole() == expected
    tail = cluster.client.request("GET", "/instances/f-1/logs/app.log", query={"tail": 2}).data.splitlines()
    assert tail == [b"line %08d" % (lines - 1), b"flood is over"]


def _end(path: Path) -> bytes:
    return path.read_bytes()[-100:]


def test_the_quotas_of_instance_and_node_hold(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=0)
    quotas = ["--log-instance-quota", "3MB", "--log-node-quota", "4MB"]
    cluster.start_worker("w1", "--log-max-size", "1MB", "--no-log-compress", *quotas)
    cluster.upload("flood", env={"LINES": "100000000"})
    cluster.deploy("s/f", "flood:1.0.0", count=2)

    def used() -> int:
        files = [p for p in (cluster.work_dir() / "instances").rglob("app.log*") if p.is_file()]
        return sum(p.stat().st_blocks * 512 for p in files if p.exists())

    def written() -> int:
        name = "f-1"
        headers = cluster.client.request("GET", f"/instances/{name}/logs/app.log", query={"tail": 1}).headers
        return int(headers["X-Log-Size"])

    wait_until(lambda: written() > 20 << 20, "more to be written than the quota is", 60)
    wait_until(lambda: used() < 16 << 20, "the quota to hold while it writes", 30)
    cluster.act("s/f", "stop")
    wait_until(lambda: used() <= 6 << 20, "the quota to hold", 30)


# --- the record of runs


def test_every_end_is_kept_with_its_log(cluster: Cluster) -> None:
    cluster.upload("exiter", restart_delay=0.05, restart_max_retries=2, env={"EXIT_CODE": "7"})
    cluster.deploy("s/e", "exiter:1.0.0", wait=False)
    cluster.wait_state("e-1", "failed")
    found = runs(cluster, "e-1")
    assert [r["number"] for r in found] == [3, 2, 1]
    assert {(r["code"], tuple(r["log_tail"])) for r in found} == {(7, ("about to end",))}
    lines = (folder_of(cluster) / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3]


def test_what_cleared_its_environment_and_left_is_found_by_its_group(cluster: Cluster, tmp_path: Path) -> None:
    limited(cluster, tmp_path)
    code = (
        "import os, subprocess, time\n"
        "time.sleep(1)\n"  # its group is known by then
        "subprocess.Popen(['env', '-i', 'setsid', 'sh', '-c', 'sleep 4321 & exec sleep 4322'])\n"
        "print('left', flush=True)\n"
        "time.sleep(1000)\n"
    )
    cluster.upload("sleeper", name="leaver", args=["-c", code])
    cluster.deploy("s/x", "leaver:1.0.0")
    log = folder_of(cluster) / "logs" / "app.log"
    wait_until(lambda: log.exists() and b"left" in log.read_bytes(), "the escape")

    def escaped() -> list[int]:
        return [
            p.pid for p in psutil.process_iter() if (p.name() == "sleep" and p.cmdline()[-1:] in (["4321"], ["4322"]))
        ]

    pids = wait_until(lambda: found if len(found := escaped()) == 2 else None, "both sleepers")
    pid = cluster.instance("x-1")["pid"]
    os.kill(pid, 9)  # they have no parent of ours any more
    cluster.act("x-1", "stop")
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


def test_a_person_is_told_what_run_is_for(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    with pytest.raises(Conflict, match="is a service; run is for jobs and schedules"):
        cluster.act("x-1", "run")
    assert sys.platform == "linux" or urllib3


def test_a_service_runs_as_its_user_with_none_of_our_groups(cluster: Cluster) -> None:
    need("root", os.geteuid() == 0, "only root may switch users")
    code = (
        "import os, time; open(os.environ['GDOS_DATA_DIR'] + '/mine', 'w').write('x')\n"
        "print(os.getuid(), os.getgid(), sorted(os.getgroups()), os.environ['USER'], flush=True); time.sleep(1000)\n"
    )
    hooks = {"pre_start": ["sh", "-c", "id -un > $GDOS_DATA_DIR/hook"]}
    as_user = {
        "user": "nobody",
        "hooks": hooks,
        "readiness_type": "exec",
        "readiness_target": "test -w ${GDOS_DATA_DIR}",
    }
    for parent in [cluster.work_dir(), *cluster.work_dir().parents]:
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)  # pytest's folders are its own alone
    cluster.upload("sleeper", name="low", entrypoint="env", args=["/usr/bin/python3", "-c", code], **as_user)
    cluster.deploy("s/u", "low:1.0.0")
    import pwd

    entry = pwd.getpwnam("nobody")
    log = folder_of(cluster) / "logs" / "app.log"
    wait_until(lambda: "nobody" in log.read_text(), "its first line")
    assert log.read_text().split(" nobody")[0] == f"{entry.pw_uid} {entry.pw_gid} [{entry.pw_gid}]"
    assert (folder_of(cluster) / "data" / "mine").owner() == "nobody"
    assert (folder_of(cluster) / "data" / "hook").read_text() == "nobody\n"
