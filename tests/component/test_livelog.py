"""Logs that are cut while something writes to them: every byte is in exactly one place."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdos.worker import livelog, logs
from gdos.worker.executor import history, rotate
from gdos.worker.executor.rotate import Policy
from tests.kit.wait import wait_until

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for n in range(int(sys.argv[2])):
    os.write(fd, b"line %08d of one that writes as fast as it can\\n" % n)
"""
LINES = 300_000


def content(path: Path) -> bytes:
    with open(path, "rb") as file:
        now = livelog.span(file.fileno(), path)
        file.seek(now.first)
        return file.read()


def whole(path: Path) -> bytes:
    """All parts in order, then the log."""
    old = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else content(p) for p in reversed(rotate.parts(path))]
    return b"".join(old) + content(path)


@pytest.fixture(params=["collapse", "punch"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of both ways to shorten a file; a file system that cannot collapse is one where that call fails."""
    if request.param == "punch":
        real = livelog._fallocate
        monkeypatch.setattr(livelog, "_fallocate", lambda fd, mode, n: mode != livelog._COLLAPSE and real(fd, mode, n))
    return tmp_path


def test_no_line_is_lost_or_doubled_at_full_speed(folder: Path) -> None:
    log = folder / "app.log"
    policy = Policy(max_size=1 << 20, max_backups=1000, instance_quota=1 << 40)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(LINES)])
    rotations = 0
    while writer.poll() is None or rotate.is_due(log, policy):
        if rotate.is_due(log, policy):
            rotate.while_running(log, policy)
            rotate.tidy(log, policy)
            rotations += 1
    assert writer.returncode == 0
    assert rotations >= 3
    assert whole(log) == b"".join(b"line %08d of one that writes as fast as it can\n" % n for n in range(LINES))
    assert log.stat().st_blocks * 512 <= 2 << 20


def test_a_reader_keeps_its_place_over_a_rotation(folder: Path) -> None:
    log = folder / "app.log"
    lines = [b"line %06d\n" % n for n in range(1000)]
    log.write_bytes(b"".join(lines[:900]))
    first = logs.read(log, 0, 9000, 0, 0.0)
    rotate.while_running(log, Policy())
    with open(log, "ab") as file:
        file.write(b"".join(lines[900:]))
    after = logs.read(log, first.offset + len(first.data), 65536, 0, 0.0)
    assert after.file == first.file
    assert first.data + after.data == b"".join(lines)
    assert after.size == 12_000
    assert logs.read(log, 0, 65536, 2, 0.0).data == b"".join(lines[-2:])
    behind = logs.read(log, 0, 65536, 0, 0.0)  # what was moved away is not there any more, and that shows
    assert behind.offset == 8192
    assert behind.data == b"".join(lines)[8192:]


@pytest.mark.parametrize("when", ["before the cut", "after the cut"])
def test_a_crash_in_the_middle_of_a_rotation_is_mended(
    folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = folder / "app.log"
    text = b"".join(b"line %06d\n" % n for n in range(2000))
    log.write_bytes(text)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if when == "before the cut":
            patched.setattr(livelog, "_cut", crash)
        else:
            remember, calls = livelog._remember, []

            def second(*args: object) -> None:
                calls.append(args)
                if len(calls) > 1:
                    raise KeyboardInterrupt
                remember(*args)  # type: ignore[arg-type]

            patched.setattr(livelog, "_remember", second)
        rotate.while_running(log, Policy())
    with open(log, "ab") as file:
        file.write(b"more\n")
    livelog.mend(log, folder / "app.log.1")
    assert whole(log) == text + b"more\n"
    chunk = logs.read(log, len(text), 100, 0, 0.0)
    assert chunk.data == b"more\n"


def test_a_full_disk_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = folder / "app.log"
    log.write_bytes(b"x" * 20_000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(livelog, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        rotate.while_running(log, Policy())
    assert whole(log) == b"x" * 20_000
    assert os.listdir(folder) == ["app.log"]


def test_the_quota_drops_the_oldest_parts_first(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for n in range(1, 6):
        part = tmp_path / f"app.log.{n}"
        part.write_bytes(bytes([n]) * 10_000)
        os.utime(part, (1000 - n, 1000 - n))
    log.write_bytes(b"now")
    assert rotate.drop_oldest([log], 40_000) >= 20_000
    assert [p.name for p in rotate.parts(log)] == ["app.log.1", "app.log.2", "app.log.3"]
    assert log.read_bytes() == b"now"


def test_what_is_written_faster_than_it_can_be_copied_stays_within_its_quota(folder: Path) -> None:
    log = folder / "app.log"
    log.write_bytes(b"y" * (3 << 20))
    rotate.while_running(log, Policy(max_size=1 << 16, instance_quota=1 << 20))
    assert log.stat().st_blocks * 512 <= 1 << 20
    assert rotate.parts(log) == []


def test_compressed_parts_are_the_log(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"a" * 10_000)
    policy = Policy(max_size=4096)
    rotate.while_running(log, policy)
    rotate.tidy(log, policy)
    wait_until(lambda: (tmp_path / "app.log.1.gz").exists(), "the compressed part")
    assert whole(log) == b"a" * 10_000


def test_a_full_disk_makes_room_with_the_oldest_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = folder / "app.log"
    log.write_bytes(b"x" * 20_000)
    for n in (1, 2):
        (folder / f"app.log.{n}").write_bytes(b"old")
    real, calls = livelog._copy, []

    def full_once(*args: object) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(livelog, "_copy", full_once)
    rotate.while_running(log, Policy())
    assert [p.name for p in rotate.parts(log)] == ["app.log.1", "app.log.2"]  # app.log.3, the oldest, has made room
    assert content(folder / "app.log.1") + content(log) == b"x" * 20_000


def test_logs_of_runs_go_with_all_their_parts(tmp_path: Path) -> None:
    for name in ("run-000001.log", "run-000001.log.1.gz", "run-000001.log.shift", "run-000002.log", "run-000010.log"):
        (tmp_path / name).write_text("x")
    (tmp_path / "app.log").write_text("x")
    history.prune_logs(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["app.log", "run-000002.log", "run-000010.log"]


def test_a_log_is_due_by_size_or_by_age(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    policy = Policy(max_size=1 << 20, max_age_days=7)
    assert not rotate.is_due(log, policy)
    log.write_bytes(b"x" * 20_000)
    assert not rotate.is_due(log, policy, 6 * 86400.0)
    assert rotate.is_due(log, policy, 8 * 86400.0)
    log.write_bytes(b"x" * (2 << 20))
    assert rotate.is_due(log, policy)
