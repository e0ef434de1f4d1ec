"""The logs of an instance, read on request: which there are, a tail, a range, waiting for new bytes.

Reads stay inside the instance's own folder and the paths that its manifest declares, links resolved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from gdos.model.errors import NotAllowed, NotFound
from gdos.wire.messages import CHUNK_MAX, Chunk, LogFile
from gdos.worker import livelog

APP_LOG = "app.log"
_TAIL_BYTES_MAX = 8 << 20
_POLL_S = 0.1


def files(root: Path, current: Path, release: Path | None, log_paths: Mapping[str, str]) -> dict[str, Path]:
    """Display name -> file: app.log (`current`: the log of the last start), older parts, what the manifest names."""
    logs = root / "logs"
    found = {APP_LOG: current}
    if logs.is_dir():
        found |= {p.name: p for p in sorted(logs.iterdir()) if p.is_file() and p.suffix not in (".part", ".shift")}
        found[APP_LOG] = current
    if release is not None:
        found |= {name: release / path for name, path in log_paths.items()}
    return found


def listing(found: Mapping[str, Path]) -> list[LogFile]:
    """What is there, with size and time (milliseconds)."""
    out = []
    for name, path in found.items():
        try:
            stat = path.stat()
        except OSError:
            if name == APP_LOG:
                out.append(LogFile(name, 0, 0))
            continue
        out.append(LogFile(name, stat.st_size, int(stat.st_mtime * 1000)))
    return out


def resolve(found: Mapping[str, Path], name: str, root: Path, declared: Collection[str] = ()) -> Path:
    """The file of a display name; one of an adopted service may be anywhere it was `declared` to be.

    Raises NotFound naming those there are, NotAllowed for a link that leaves the instance's folder.
    """
    if name not in found:
        raise NotFound(f"there is no log {name}; there are: {', '.join(found)}")
    path = Path(os.path.realpath(found[name]))
    if name not in declared and not path.is_relative_to(os.path.realpath(root)):
        raise NotAllowed(f"the log {name} leads out of the instance's folder")
    return path


def read(path: Path, offset: int, limit: int, tail: int, wait_s: float) -> Chunk:
    """Bytes from `offset`, or the last `tail` lines. Waits up to `wait_s` for bytes beyond `offset`.

    `Chunk.file` is the file's identity: an offset into another one means nothing.
    """
    deadline = time.monotonic() + wait_s
    while True:
        chunk = _read(path, offset, min(limit, CHUNK_MAX), tail)
        if chunk.data or time.monotonic() >= deadline or chunk.size < offset:
            return chunk
        time.sleep(_POLL_S)


def _read(path: Path, offset: int, limit: int, tail: int) -> Chunk:
    try:
        with open(path, "rb") as file, livelog.held(path):
            now = livelog.span(file.fileno(), path)
            if tail:
                start = _tail_start(file.fileno(), now.first, now.size, tail)
            else:
                start = min(max(offset - now.shift, now.first), now.size)
            file.seek(start)
            return Chunk(offset=now.shift + start, size=now.shift + now.size, file=now.file, data=file.read(limit))
    except FileNotFoundError:
        return Chunk(offset=0, size=0, file="", data=b"")


def _tail_start(fd: int, first: int, size: int, lines: int) -> int:
    """Where the last `lines` lines begin, at most _TAIL_BYTES_MAX from the end."""
    lowest = max(first, size - _TAIL_BYTES_MAX)
    position, missing = size, lines + 1
    while position > lowest:
        step = min(16384, position - lowest)
        position -= step
        piece = os.pread(fd, step, position) if hasattr(os, "pread") else _pread(fd, step, position)
        if position + step == size and piece.endswith(b"\n"):
            piece = piece[:-1]
        count = piece.count(b"\n")
        if count >= missing - 1 and lines:
            at = len(piece)
            for _ in range(missing - 1):
                at = piece.rindex(b"\n", 0, at)
            return position + at + 1
        missing -= count
    return lowest


def _pread(fd: int, count: int, offset: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, count)
