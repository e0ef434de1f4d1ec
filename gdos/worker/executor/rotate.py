"""app.log at a start: the old one becomes app.log.1, older ones move up, compressed, the oldest go."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Policy:
    max_size: int = 50 << 20
    max_backups: int = 5
    max_age_days: int = 7
    compress: bool = True
    rotate_on_start: bool = True


def at_start(path: Path, policy: Policy) -> None:
    """Nobody writes to the log now: move it aside. Raises OSError; nothing is lost then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.stat().st_size == 0:
        return
    if not policy.rotate_on_start and path.stat().st_size < policy.max_size:
        return
    for number in range(policy.max_backups, 0, -1):
        for ending in ("", ".gz"):
            old = path.with_name(f"{path.name}.{number}{ending}")
            if old.is_file():
                if number == policy.max_backups:
                    old.unlink()
                else:
                    os.replace(old, path.with_name(f"{path.name}.{number + 1}{ending}"))
    os.replace(path, path.with_name(f"{path.name}.1"))


def compress_old(path: Path, policy: Policy) -> None:
    """Compress what `at_start` moved aside, and drop what is too old. Raises OSError."""
    oldest = time.time() - policy.max_age_days * 86400
    for old in path.parent.glob(f"{path.name}.[0-9]*"):
        if old.stat().st_mtime < oldest:
            old.unlink()
        elif policy.compress and old.suffix != ".gz":
            _compress(old)


def _compress(old: Path) -> None:
    target = old.with_name(old.name + ".gz")
    part = old.with_name(old.name + ".gz.part")
    with open(old, "rb") as source, gzip.open(part, "wb", compresslevel=6) as out:
        shutil.copyfileobj(source, out, 1 << 20)
    shutil.copystat(old, part)
    os.replace(part, target)
    old.unlink()
