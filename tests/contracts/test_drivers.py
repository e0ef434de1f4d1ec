"""One suite for every driver: what starts can be found, watched, stopped, killed and taken back."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gdos.model.errors import GdosError
from gdos.model.manifest import Manifest
from gdos.model.values import Exit, Identity
from gdos.worker.drivers import find
from gdos.worker.drivers.adopt import AdoptDriver
from gdos.worker.drivers.base import Driver, Handle, Spec
from gdos.worker.drivers.fake import FakeDriver, Script
from gdos.worker.drivers.spawn import SpawnDriver
from gdos.worker.platform import System
from gdos.worker.platform.base import LAUNCH, MARK, Command
from tests.component.test_lifecycle import free_port
from tests.kit.packages import APPS
from tests.kit.wait import wait_until


class Bench:
    """A driver and how to make it run things."""

    def __init__(self, driver: Driver, folder: Path, system: Any) -> None:
        self.driver = driver
        self.folder = folder
        self.system = system
        self.launches = 0

    app: list[str] = ["sleeper"]  # noqa: RUF012 - what is started when a test does not care

    def spec(self, app: str = "", **env: str) -> Spec:
        self.launches += 1
        mark = str(self.folder)
        variables = {"PATH": os.environ["PATH"], MARK: mark, LAUNCH: str(self.launches), **env}
        name, *more = [app, *self.app[1:]] if app else self.app
        argv = [sys.executable, "-u", str(APPS / f"{name}.py"), *more]
        return Spec(Command(argv, self.folder, variables, self.folder / "app.log"), mark, str(self.launches))

    def prepare(self, **script: Any) -> None:
        if isinstance(self.driver, FakeDriver):
            self.driver.scripts[str(self.folder)] = Script(**script)

    def exits(self, handle: Handle) -> queue.SimpleQueue[Exit]:
        found: queue.SimpleQueue[Exit] = queue.SimpleQueue()
        self.driver.watch(handle, found.put)
        return found


SYSTEMCTL = """#!/bin/sh
# Stands in for systemctl, which there is no systemd for here: the unit's main process is in a file.
cat "{folder}/pid" 2>/dev/null || echo 0
"""


def adopted(kind: str, folder: Path, port: int) -> Manifest:
    """How to find tests/apps/listener.py, which is started with this folder and port."""
    ways: dict[str, dict[str, Any]] = {
        "match": {"match_args": f"listener.*{folder}"},
        "pidfile": {"pid_file": str(folder / "pid")},
        "port": {"port": port},
        "systemd": {"unit": "thing.service"},
    }
    return Manifest(name="a", version="0", is_external=True, pid_strategy=kind, readiness_timeout=20, **ways[kind])  # type: ignore[arg-type]


@pytest.fixture(params=["spawn", "fake", "match", "pidfile", "port", "systemd"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    system = System(tmp_path)
    kind = request.param
    spawner = SpawnDriver(system)
    driver: Driver = FakeDriver() if kind == "fake" else spawner
    if kind not in ("spawn", "fake"):
        port = free_port()
        driver = AdoptDriver(system, spawner, adopted(kind, tmp_path, port))
        monkeypatch.setattr(Bench, "app", ["listener", str(tmp_path), str(port)])
        (tmp_path / "systemctl").write_text(SYSTEMCTL.format(folder=tmp_path))
        (tmp_path / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = Bench(driver, tmp_path, system)
    yield made
    for identity in system.marked(str(tmp_path)):
        system.kill(identity)
    system.close()


def test_start_gives_a_handle_that_recover_takes_back(bench: Bench) -> None:
    handle = bench.driver.start(bench.spec())
    assert bench.driver.recover(handle, str(bench.folder)) == handle
    assert bench.driver.inspect(handle)[0] == handle.process.pid
    assert bench.driver.kill(handle) == []
    assert bench.driver.recover(handle, str(bench.folder)) is None


def test_an_exit_is_told_exactly_once(bench: Bench) -> None:
    handle = bench.driver.start(bench.spec())
    exits = bench.exits(handle)
    bench.driver.ask_stop(handle, None)
    assert exits.get(timeout=10) == Exit(signal=15)
    bench.driver.kill(handle)
    assert exits.empty()


def test_watching_what_has_ended_tells_at_once(bench: Bench) -> None:
    handle = bench.driver.start(bench.spec())
    bench.driver.kill(handle)
    assert bench.exits(handle).get(timeout=10).signal == 9


def test_kill_ends_what_does_not_listen_and_is_idempotent(bench: Bench) -> None:
    bench.prepare(ignores_stop=True)
    handle = bench.driver.start(bench.spec("stubborn" if isinstance(bench.driver, SpawnDriver) else "", STUBBORN="1"))
    log = bench.folder / "app.log"
    if not isinstance(bench.driver, FakeDriver):
        wait_until(lambda: log.exists() and b"hello" in log.read_bytes(), "its first line")
    exits = bench.exits(handle)
    bench.driver.ask_stop(handle, None)
    assert bench.driver.kill(handle) == []
    assert exits.get(timeout=10).signal == 9
    assert bench.driver.kill(handle) == []


def test_nothing_is_recovered_where_nothing_was_started(bench: Bench) -> None:
    assert bench.driver.recover(None, str(bench.folder)) is None


def test_a_start_that_fails_raises(bench: Bench) -> None:
    bench.prepare(start_error="no such program")
    spec = bench.spec()
    broken = Spec(Command(["/no/such/program"], bench.folder, {}, bench.folder / "app.log"), spec.mark, spec.launch)
    with pytest.raises((OSError, GdosError)):
        bench.driver.start(broken)


# --- what only real processes can do wrong


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Bench]:
    system = System(tmp_path)
    made = Bench(SpawnDriver(system), tmp_path, system)
    yield made
    for identity in system.marked(str(tmp_path)):
        system.kill(identity)
    system.close()


def forked(real: Bench) -> tuple[Handle, set[int]]:
    """The forker, once its whole tree is there."""
    handle = real.driver.start(real.spec("forker"))
    log = real.folder / "app.log"
    wait_until(lambda: b"forked" in log.read_bytes(), "the tree")

    def tree() -> set[int]:
        found = {i.pid for i in real.system.tree(handle.process, str(real.folder))}
        sleeps = [p for p in found if psutil.Process(p).name() == "sleep"]
        return found if len(sleeps) == 3 else set()

    return handle, wait_until(tree, "three sleepers")


def test_kill_ends_the_tree_and_all_that_escaped(real: Bench) -> None:
    handle, pids = forked(real)
    assert real.driver.kill(handle) == []
    assert [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != "zombie"] == []


def test_what_escaped_is_found_after_the_main_process_ended(real: Bench) -> None:
    handle, pids = forked(real)
    real.system.kill(handle.process)
    wait_until(lambda: not real.system.is_alive(handle.process), "the end of the main process")
    assert real.driver.recover(handle, str(real.folder)) is None
    assert real.driver.kill(handle) == []
    assert all(not psutil.pid_exists(p) or psutil.Process(p).status() == "zombie" for p in pids)


def test_a_sweep_ends_earlier_launches_only(real: Bench) -> None:
    old, _ = forked(real)
    real.system.kill(old.process)
    new = real.driver.start(real.spec())
    assert real.driver.sweep(new) >= 1
    wait_until(lambda: {i.pid for i in real.system.marked(str(real.folder))} == {new.process.pid}, "the sweep")


def test_a_sweep_never_touches_what_is_just_being_started(real: Bench) -> None:
    """In the middle of an exec a process has no environment for a moment; one that executes a thousand times lives."""
    script = real.folder / "again.sh"
    script.write_text('[ "$1" -gt 0 ] && exec sh "$0" $(($1 - 1))\nexec sleep 1000\n')
    spec = real.spec()
    command = Command(["sh", str(script), "1500"], spec.command.cwd, spec.command.env, spec.command.output)
    handle = real.driver.start(Spec(command, spec.mark, spec.launch))
    exits = real.exits(handle)

    def arrived() -> bool:
        assert real.driver.sweep(handle) == 0
        assert exits.empty()
        return psutil.Process(handle.process.pid).name() == "sleep"

    while not arrived():
        continue


def test_a_process_whose_handle_was_never_written_is_found_by_its_mark(real: Bench) -> None:
    handle = real.driver.start(real.spec())
    found = wait_until(lambda: real.driver.recover(None, str(real.folder)), "the mark")
    assert found == handle


def test_a_reused_pid_is_a_stranger(real: Bench) -> None:
    handle = real.driver.start(real.spec())
    stranger = Handle(Identity(handle.process.pid, handle.process.started + 1, handle.process.boot), "/elsewhere", "1")
    assert real.driver.recover(stranger, "/elsewhere") is None
    real.driver.ask_stop(stranger, None)
    real.driver.kill(stranger)
    assert real.system.is_alive(handle.process)
    elsewhere = Handle(Identity(handle.process.pid, handle.process.started, "another boot"), "/elsewhere", "1")
    real.driver.kill(elsewhere)
    assert real.system.is_alive(handle.process)


def test_an_instance_of_another_work_folder_is_not_taken(real: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    handle = real.driver.start(real.spec())
    wait_until(lambda: (real.folder / "app.log").read_bytes(), "its first line")
    copy = tmp_path_factory.mktemp("copy")
    assert real.driver.recover(handle, str(copy)) is None


def test_stdout_is_the_file_itself(real: Bench) -> None:
    handle = real.driver.start(real.spec())
    log = real.folder / "app.log"
    wait_until(lambda: b"hello" in log.read_bytes(), "its first line")
    assert Path(f"/proc/{handle.process.pid}/fd/1").resolve() == log.resolve()
    assert os.getsid(handle.process.pid) == handle.process.pid


def test_the_stop_program_is_used(real: Bench) -> None:
    spec = real.spec("stubborn")
    script = f"import os; os.kill({os.getpid()}, 0); print('asked')"
    stop = Command([sys.executable, "-c", script], real.folder, dict(spec.command.env), real.folder / "app.log")
    handle = real.driver.start(spec)
    with_stop = Spec(spec.command, spec.mark, spec.launch, "TERM", stop)
    real.driver.ask_stop(handle, with_stop)
    assert b"asked" in (real.folder / "app.log").read_bytes()
    failing = Command([sys.executable, "-c", "raise SystemExit(4)"], real.folder, {}, real.folder / "app.log")
    with pytest.raises(GdosError, match="ended with 4"):
        real.driver.ask_stop(handle, Spec(spec.command, spec.mark, spec.launch, "TERM", failing))


def test_the_linux_tree_walk_agrees_with_psutil(real: Bench) -> None:
    handle, _ = forked(real)
    mine = set(real.driver.inspect(handle))
    theirs = {handle.process.pid, *(c.pid for c in psutil.Process(handle.process.pid).children(recursive=True))}
    assert mine == theirs


def test_the_linux_sample_agrees_with_psutil(real: Bench) -> None:
    from gdos.worker.sampling.trees import read_linux, read_psutil

    if sys.platform != "linux":
        pytest.skip("reads /proc")
    handle = real.driver.start(real.spec())
    wait_until(lambda: (real.folder / "app.log").read_bytes(), "its first line")
    mine, theirs = read_linux(handle.process.pid), read_psutil(handle.process.pid)
    assert mine is not None
    assert theirs is not None
    assert abs(mine.cpu_s - theirs.cpu_s) < 0.5
    assert abs(mine.rss - theirs.rss) < 4 << 20
    assert mine.threads == theirs.threads


def test_no_descriptor_is_left(real: Bench) -> None:
    def cycle() -> None:
        handle = real.driver.start(real.spec())
        exits = real.exits(handle)
        real.driver.kill(handle)
        exits.get(timeout=10)

    cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        cycle()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "the descriptors to be closed")


# --- what was started by somebody else


@pytest.fixture(params=["match", "pidfile", "port", "systemd"])
def foreign(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[AdoptDriver, System, subprocess.Popen[bytes]]]:
    """A service that somebody else has started."""
    system, port = System(tmp_path), free_port()
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(folder=tmp_path))
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    argv = [sys.executable, "-u", str(APPS / "listener.py"), str(tmp_path), str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "pid").exists(), "it to be up")
    yield AdoptDriver(system, SpawnDriver(system), adopted(request.param, tmp_path, port)), system, process
    process.kill()
    process.wait()
    system.close()


Foreign = tuple[AdoptDriver, System, "subprocess.Popen[bytes]"]


def test_what_runs_already_is_adopted_and_not_started_again(foreign: Foreign, tmp_path: Path) -> None:
    driver, _, process = foreign
    spec = Spec(Command(["/no/such/program"], tmp_path, {}, tmp_path / "log"), str(tmp_path), "1")
    handle = driver.start(spec)
    assert handle.process.pid == process.pid
    assert handle.exe == os.path.realpath(sys.executable)
    assert driver.recover(None, str(tmp_path)) is not None
    exits: queue.SimpleQueue[Exit] = queue.SimpleQueue()
    driver.watch(handle, exits.put)
    driver.ask_stop(handle, None)
    assert exits.get(timeout=10) == Exit()  # not our child: how it ended nobody can tell
    process.wait()
    assert driver.recover(handle, str(tmp_path)) is None


def test_a_stranger_with_the_same_pid_is_never_signalled(foreign: Foreign, tmp_path: Path) -> None:
    driver, system, process = foreign
    real = driver.recover(None, str(tmp_path))
    assert real is not None
    later = Handle(Identity(process.pid, real.process.started + 1, real.process.boot), "m", "1", real.exe)
    reboot = Handle(Identity(process.pid, real.process.started, "another boot"), "m", "1", real.exe)
    program = Handle(real.process, "m", "1", "/usr/bin/another-program")
    for strange in (later, reboot, program):
        driver.ask_stop(strange, None)
        assert driver.kill(strange) == []
    assert process.poll() is None
    assert system.is_alive(real.process)


def test_a_pid_file_that_is_older_than_its_process_names_a_stranger(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    try:
        path = tmp_path / "pid"
        path.write_text(f"{process.pid}\n")
        manifest = Manifest(name="a", version="0", is_external=True, pid_strategy="pidfile", pid_file=str(path))
        found = find.find(manifest, "")
        assert found is not None
        assert found.pid == process.pid
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
        assert find.find(manifest, "") is None
        for text in ("", "nonsense", "999999999", str(os.getpid() * 0 + 1) + "x"):
            path.write_text(text)
            assert find.find(manifest, "") is None
    finally:
        process.kill()
        process.wait()


def test_several_that_fit_are_named_and_a_tree_is_one(tmp_path: Path) -> None:
    word = f"unique-{os.getpid()}"
    tree = subprocess.Popen(["sh", "-c", f"sh -c 'sleep 1000; : {word}' & sleep 1000; : {word}"])
    manifest = Manifest(name="a", version="0", is_external=True, pid_strategy="match", match_args=word)
    others: list[subprocess.Popen[bytes]] = []
    try:
        wait_until(lambda: len(find.matches(manifest)) == 2, "the tree")
        found = find.find(manifest, "")
        assert found is not None
        assert found.pid == tree.pid
        others.append(subprocess.Popen(["sh", "-c", f"sleep 1000; : {word}"]))
        wait_until(lambda: len(find.matches(manifest)) == 3, "another")
        with pytest.raises(find.Ambiguous, match=rf"2 processes fit .* {others[0].pid} \("):
            find.find(manifest, "")
    finally:
        for process in [tree, *others]:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
