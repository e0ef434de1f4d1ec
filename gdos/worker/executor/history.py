"""What became of the last runs of an instance, in its folder: for when the master is not there, and after it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import msgspec

from gdos.wire.messages import Run

log = logging.getLogger(__name__)
FILE = "runs.jsonl"
SIZE_MAX = 256 << 10


def add(folder: Path, run: Run) -> None:
    """Append one; the older half goes when there are too many. A full disk loses this copy only, and says so."""
    path = folder / FILE
    try:
        with open(path, "ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
            size = file.tell()
        if size > SIZE_MAX:
            lines = path.read_bytes().splitlines(keepends=True)
            part = path.with_name(FILE + ".part")
            part.write_bytes(b"".join(lines[len(lines) // 2 :]))
            part.replace(path)
    except OSError as e:
        log.warning("%s: a run cannot be written down (%s)", path, e.strerror)


def prune_logs(logs: Path, keep: int) -> None:
    """Of the logs that jobs write, one a run, the newest `keep` stay, each with its older parts. Raises OSError."""
    found: dict[int, list[Path]] = {}
    for path in logs.glob("run-*.log*"):
        match = re.match(r"run-(\d+)\.log", path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    for number in sorted(found)[:-keep]:
        for path in found[number]:
            path.unlink(missing_ok=True)


def log_name(number: int) -> str:
    """The log of one run of a job."""
    return f"run-{number:06d}.log"
