"""app.log: moved aside at a start, by size while it is written to; old parts compressed, counted, within a quota.

app.log.1 is the newest part and goes on where the older ones end: read in order, they are the log byte for byte.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gdos.worker import livelog


@dataclass(frozen=True, slots=True)
class Policy:
    """`instance_quota` and `node_quota`: bytes of all logs of an instance, and of all instances together."""

    max_size: int = 50 << 20
    max_backups: int = 5
    max_age_days: int = 7
    compress: bool = True
    rotate_on_start: bool = True
    instance_quota: int = 512 << 20
    node_quota: int = 10 << 30


def at_start(path: Path, policy: Policy) -> None:
    """Nobody writes to the log now: move it aside. Raises OSError; nothing is lost then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.stat().st_size == 0:
        return
    if not policy.rotate_on_start and path.stat().st_size < policy.max_size:
        return
    livelog.mend(path, _part(path, 1))
    _move_up(path, policy)
    os.replace(path, _part(path, 1))


def while_running(path: Path, policy: Policy) -> None:
    """The service writes on: what is too much goes into parts, and from there away. Raises OSError."""
    livelog.mend(path, _part(path, 1))
    if _bytes(path) > policy.instance_quota:  # written faster than it can be copied: its front is over the quota
        livelog.move_front(path, None)
        return
    _move_up(path, policy)
    try:
        livelog.move_front(path, _part(path, 1))
    except OSError as e:
        old = parts(path)
        if e.errno not in (errno.ENOSPC, errno.EDQUOT) or not old:
            raise
        for part in old[len(old) // 2 :]:  # a full disk: the older half makes room for the newest
            part.unlink(missing_ok=True)
        livelog.move_front(path, _part(path, 1))


def is_due(path: Path, policy: Policy, age_s: float = 0.0) -> bool:
    """Whether a running log has grown beyond its size, or was begun (`age_s` ago) longer ago than logs are kept.

    Cheap: asked every second.
    """
    try:
        return _bytes(path) > (policy.max_size if age_s < policy.max_age_days * 86400 else livelog.BLOCK)
    except OSError:
        return False


def _bytes(path: Path) -> int:
    """What a file takes: a hole takes nothing."""
    stat = path.stat()
    blocks = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else min(stat.st_size, blocks * 512)


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _move_up(path: Path, policy: Policy) -> None:
    """app.log.1 becomes app.log.2 and so on; the oldest goes."""
    for number in range(policy.max_backups, 0, -1):
        for ending in ("", ".gz"):
            old = path.with_name(f"{path.name}.{number}{ending}")
            if old.is_file():
                if number == policy.max_backups:
                    old.unlink()
                else:
                    os.replace(old, path.with_name(f"{path.name}.{number + 1}{ending}"))


def parts(path: Path) -> list[Path]:
    """The old parts of a log, the newest first."""
    found = []
    for old in path.parent.glob(f"{path.name}.[0-9]*"):
        match = re.fullmatch(re.escape(path.name) + r"\.(\d+)(\.gz)?", old.name)
        if match:
            found.append((int(match[1]), old))
    return [old for _, old in sorted(found)]


def tidy(path: Path, policy: Policy) -> None:
    """Compress old parts, drop what is too old, then the oldest until the quota holds. Raises OSError."""
    oldest = time.time() - policy.max_age_days * 86400
    for old in parts(path):
        if old.stat().st_mtime < oldest:
            old.unlink()
        elif policy.compress and old.suffix != ".gz":
            _compress(old)
    drop_oldest([path], policy.instance_quota)


def drop_oldest(logs: list[Path], quota: int) -> int:
    """Remove the oldest parts of these logs until all of it takes at most `quota`; returns the bytes freed."""
    found: list[tuple[float, int, Path]] = []
    total = 0
    for path in logs:
        for old in [path, *parts(path)]:
            try:
                size = _bytes(old)
            except FileNotFoundError:
                continue
            total += size
            if old != path:
                found.append((old.stat().st_mtime, size, old))
    freed = 0
    for _, size, old in sorted(found):
        if total - freed <= quota:
            break
        old.unlink(missing_ok=True)
        freed += size
    return freed


def _compress(old: Path) -> None:
    target = old.with_name(old.name + ".gz")
    part = old.with_name(old.name + ".gz.part")
    with open(old, "rb") as source, gzip.open(part, "wb", compresslevel=6) as out:
        source.seek(livelog.span(source.fileno(), old).first)
        shutil.copyfileobj(source, out, 1 << 20)
    shutil.copystat(old, part)
    os.replace(part, target)
    old.unlink()
