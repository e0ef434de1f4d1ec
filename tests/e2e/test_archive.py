"""The built file itself: in a bare environment, under the original's names, its first starts, the demo, the tour."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.kit.cluster import PASSWORD, ROOT, Cluster
from tests.kit.wait import wait_until

GDOS = ROOT / "dist" / "gdos"
SEED = ROOT / "tests" / "e2e" / "original_commands.txt"


@pytest.fixture(scope="session")
def gdos() -> Path:
    need("archive", GDOS.exists(), "make zipapp builds dist/gdos")
    return GDOS


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment with nothing in it but where things are."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": shared_cache()}


def shared_cache() -> str:
    """One unpacked copy for all tests of this run."""
    folder = Path(os.environ.get("GDOS_TEST_CACHE") or f"/tmp/gdos-test-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)


def run(gdos: Path, *args: str, env: dict[str, str], cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(gdos), *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=120, **more
    )


@pytest.fixture
def cluster(gdos: Path, make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("XDG_CACHE_HOME", shared_cache())
    made = make_cluster(workers=0, command=[sys.executable, str(gdos)])
    made.env.pop("PYTHONPATH")
    made.start_worker("w1")
    return made


def test_version_and_help_in_a_bare_environment(gdos: Path, bare: dict[str, str], tmp_path: Path) -> None:
    done = run(gdos, "--version", env=bare, cwd=tmp_path)
    assert (done.returncode, done.stdout.startswith("gdos 0.")) == (0, True), done.stderr
    facts = json.loads(run(gdos, "version", "--json", env=bare, cwd=tmp_path).stdout)
    assert facts["version"]
    assert "Run a worker" in run(gdos, "--help", env=bare, cwd=tmp_path).stdout
    wrong = run(gdos, "nonsense", env=bare, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "No such command" in wrong.stderr
    assert run(gdos, "ps", "--master", "http://127.0.0.1:9", env=bare, cwd=tmp_path).returncode == 3


def test_the_demo(gdos: Path, bare: dict[str, str], tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = run(gdos, "demo", "--once", env={**bare, "TMPDIR": str(temporary)}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(" ok " in line for line in lines)
    assert [w for w in ("upgrade", "roll it back", "restart", "destroy") if w not in done.stdout] == []
    assert list(temporary.iterdir()) == []


def cli(cluster: Cluster, *args: str, code: int = 0, **more: Any) -> Any:
    """A client command with --json; its parsed output."""
    done = subprocess.run(
        [*cluster.command, *args, "--json"], env=cluster.env, cwd=cluster.folder, capture_output=True, text=True,
        timeout=120, **more,
    )  # fmt: skip
    assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_the_tour_by_hand(cluster: Cluster) -> None:
    """Every command line that scripts rely on (interfaces.md)."""
    cli(cluster, "login", cluster.url, "--user", "admin", "--password-stdin", input=PASSWORD + "\n")
    assert (Path(cluster.env["XDG_CONFIG_HOME"]) / "gdos" / "login.json").stat().st_mode & 0o777 == 0o600
    assert cli(cluster, "join-token", "create")["token"].startswith("gdos_join_")
    assert [n["state"] for n in cli(cluster, "nodes")] == ["online"]

    project = cluster.folder / "my-project"
    cli(cluster, "pack", "init", str(project))
    cli(cluster, "pack", "check", str(project))
    first = cli(cluster, "pack", "build", str(project), "-o", "v1.zip")
    again = cli(cluster, "pack", "build", str(project), "-o", "again.zip")
    assert first["sha256"] == again["sha256"]
    manifest = project / "service.json"
    manifest.write_text(manifest.read_text().replace('"1.0.0"', '"1.1.0"'))
    cli(cluster, "pack", "build", str(project), "-o", "v2.zip")
    for name in ("v1.zip", "v2.zip"):
        assert cli(cluster, "upload", name)["name"] == "my-project"

    target = ["shop/hello", "--package", "my-project:1.0.0", "--env", "A=b", "--wait"]
    task = cli(cluster, "deploy", *target)
    assert (task["state"], task["kind"]) == ("succeeded", "deploy")
    (instance,) = cli(cluster, "ps")
    assert (instance["state"], instance["name"], instance["version"]) == ("running", "hello-1", "1.0.0")
    assert cli(cluster, "upgrade", "shop/hello", "--to", "1.1.0", "--wait")["state"] == "succeeded"
    assert cli(cluster, "rollback", "shop/hello", "--wait")["state"] == "succeeded"
    assert cli(cluster, "ps", "shop")[0]["version"] == "1.0.0"
    cli(cluster, "restart", "hello-1", "--wait")
    cli(cluster, "stop", "shop/hello-1", "--wait")
    cli(cluster, "start", "shop", "--wait")
    logs = subprocess.run(
        [*cluster.command, "logs", "hello-1", "--lines", "5"],
        env=cluster.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "hello" in logs.stdout
    status = cli(cluster, "status")
    assert (len(status["nodes"]), len(status["instances"])) == (1, 1)
    assert {t["kind"] for t in cli(cluster, "tasks")} >= {"deploy", "upgrade", "rollback", "restart", "stop", "start"}
    assert cli(cluster, "timeline", "hello-1")
    assert cli(cluster, "audit", "-n", "3")[0]["who"] == "admin"
    assert cli(cluster, "packages", "-s", "my-project")[0]["in_use"] is True
    assert cli(cluster, "node", "label", "w1", "zone=a")["labels"] == {"zone": "a"}
    cli(cluster, "destroy", "shop/hello", "--wait")
    assert cli(cluster, "ps") == []
    cli(cluster, "delete-system", "shop")

    assert "there is no instance" in cli(cluster, "stop", "nobody", code=5)
    assert "expected SYSTEM/MODULE" in cli(cluster, "deploy", "shop", code=2)
    assert "ghost" in cli(cluster, "deploy", "a/b", "--package", "ghost:1", code=5)
    cli(cluster, "logout")
    assert "gdos login" in cli(cluster, "ps", "--master", cluster.url, code=4)


def test_following_a_log_through_a_restart(cluster: Cluster) -> None:
    cluster.upload("sleeper")
    cluster.deploy("s/x", "sleeper:1.0.0")
    env = {**cluster.env, "GDOS_MASTER": cluster.url, "GDOS_TOKEN": cluster.client._token}
    process = subprocess.Popen([*cluster.command, "logs", "x-1", "-f"], env=env, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    wait_until(lambda: len(lines) == 1, "the first line")
    cluster.act("x-1", "restart")
    wait_until(lambda: len(lines) == 2, "the line of the second start")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    reader.join(10)
    process.stdout.close()
    assert lines == ["hello from x-1 version 1.0.0\n"] * 2


def seed_lines() -> list[str]:
    return [line for line in SEED.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", seed_lines())
def test_the_originals_command_lines(gdos: Path, bare: dict[str, str], tmp_path: Path, line: str) -> None:
    """Verbatim, through symlinks; only the ports and folders of the machine are moved out of the way."""
    for name in ("master", "worker", "pack-tool"):
        (tmp_path / name).symlink_to(gdos)
    if "build" in line:
        run(tmp_path / "pack-tool", "init", "./my-project", env=bare, cwd=tmp_path)
    moved = line.replace("/data/", f"{tmp_path}/data/").replace("/opt/", f"{tmp_path}/opt/")
    program, *args = moved.split()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / program), *args],
        env={**bare, "GDOS_ADMIN_PASSWORD": PASSWORD}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        text = ""
        while True:
            part = process.stdout.readline()
            text += part
            if not part or part.startswith("ready "):
                break
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        text += process.stdout.read()
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
            process.wait()
    if "-autostart" in line:
        assert "start at boot (--autostart) is not there yet" in text
    elif "192.168" in line:
        assert code == 4  # this worker has no join token, which the original did not know
        assert "has not joined http://192.168.1.100:8080 yet: start it with --join-token" in text
    elif "is taken by another program" in text or "cannot be opened" in text:
        assert code != 0  # this machine has something on the original's port; it was said clearly
    else:
        assert code == 0, text
    assert "Traceback" not in text
    if "build" in line:
        assert (tmp_path / "my-service-v1.zip").exists()


def test_six_first_starts_race_and_one_is_killed(gdos: Path, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SHIV_ROOT": str(tmp_path / "cache")}
    command = [sys.executable, str(gdos), "--version"]
    victim = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "cache").exists() or victim.poll() is not None, "the first to begin")
    victim.kill()
    victim.wait()
    racing = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for process in racing:
        out, _ = process.communicate(timeout=120)
        assert (process.returncode, out.startswith("gdos 0.")) == (0, True)
    assert len([p for p in (tmp_path / "cache").iterdir() if not p.name.startswith(".") and p.suffix != ".tmp"]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"HOME": "/"}, "set SHIV_ROOT to a folder that only you can write"),
        ({"SHIV_ROOT": "/proc/nothing"}, "cannot unpack into /proc/nothing"),
    ],
)
def test_no_place_to_unpack_is_said_in_one_line(gdos: Path, tmp_path: Path, change: dict[str, str], said: str) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **change}
    done = run(gdos, "--version", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_others_can_write_is_refused(gdos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    done = run(gdos, "--version", env={"PATH": os.environ["PATH"], "SHIV_ROOT": str(cache)}, cwd=tmp_path)
    assert "must be owned and writable by you alone" in done.stderr


def other_pythons() -> Iterator[str]:
    for minor in (12, 13, 14):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            yield found
    yield from map(str, Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3"))


def test_the_wrong_python_is_told_which_file_is_right(gdos: Path, bare: dict[str, str], tmp_path: Path) -> None:
    others = list(other_pythons())
    need("other-python", bool(others), "this machine has one Python only")
    for python in others:
        done = subprocess.run([python, str(gdos), "--version"], env=bare, capture_output=True, text=True, timeout=60)
        assert "this file is for Python 3." in done.stderr
        assert "take gdos for cp3" in done.stderr


def test_the_worker_carries_no_command_line(cluster: Cluster) -> None:
    """What the worker's process has loaded: nothing of the master's, nothing of the terminal's."""
    maps = Path(f"/proc/{cluster.workers['w1'].pid}/maps").read_text()
    assert "httptools" not in maps
    text = Path(f"/proc/{cluster.workers['w1'].pid}/cmdline").read_text()
    assert "gdos-worker" in text
    code = (
        "import sys; sys.argv=['x']\n"
        "import gdos.worker.app, gdos.worker.slim\n"
        "bad = {'typer', 'rich', 'bottle', 'uvicorn', 'websockets', 'argon2', 'prometheus_client', 'urllib3', 'yaml'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_reset_password(cluster: Cluster) -> None:
    assert cluster.master is not None
    args = ["master", "reset-password", "--data-dir", str(cluster.folder / "master")]
    env = {k: v for k, v in cluster.env.items() if k != "GDOS_ADMIN_PASSWORD"}

    def reset() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*cluster.command, *args], env=env, capture_output=True, text=True, timeout=60)

    assert "another master uses the data folder" in reset().stderr
    cluster.master.stop()
    done = reset()
    assert done.returncode == 0, done.stderr
    password = done.stdout.split()[-1]
    cluster.start_master()
    cli(cluster, "login", cluster.url, "--password-stdin", input=password + "\n")
    assert "wrong" in cli(cluster, "login", cluster.url, "--password-stdin", input=PASSWORD + "\n", code=4)


def test_the_archive_is_within_its_budget(gdos: Path) -> None:
    assert gdos.stat().st_size < 12_000_000
