"""A log that a service writes to while we shorten it from the front: no line is lost and the service does nothing.

Linux can take bytes off the beginning of a file that is being appended to (collapse), or at least give back their
blocks (a hole). Offsets that readers hold count from the first byte ever written: what was collapsed is remembered
beside the log, in `<log>.shift`. Reads and cuts of one log exclude each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gdos.diskio import write_atomic

BLOCK = 4096
_PIECE = 1 << 20
_locks = [threading.RLock() for _ in range(64)]


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """While a log is read or cut."""
    with _locks[hash(str(path)) % len(_locks)]:
        yield


@dataclass(frozen=True, slots=True)
class Span:
    """Where a log's bytes are: `first` to `size` in the file, `shift` bytes went before. `file` is its identity."""

    first: int
    size: int
    shift: int
    file: str


def span(fd: int, path: Path) -> Span:
    """Of an open log. Call it while the log is held."""
    stat = os.fstat(fd)
    file = f"{stat.st_dev:x}-{stat.st_ino:x}"
    return Span(_first_data(fd, stat.st_size), stat.st_size, _shift(path, file)[0], file)


def _first_data(fd: int, size: int) -> int:
    if sys.platform != "linux" or size == 0:
        return 0
    position = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        return size  # nothing but a hole
    finally:
        os.lseek(fd, position, os.SEEK_SET)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".shift")


def _shift(path: Path, file: str) -> tuple[int, int, int]:
    """(bytes collapsed so far, bytes that are about to be, the file's size before that)"""
    try:
        raw = json.loads(_beside(path).read_bytes())
        return (int(raw["shift"]), int(raw["pending"]), int(raw["size"])) if raw["file"] == file else (0, 0, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0, 0


def _remember(path: Path, file: str, shift: int, pending: int = 0, size: int = 0) -> None:
    row = {"file": file, "shift": shift, "pending": pending, "size": size}
    write_atomic(_beside(path), json.dumps(row).encode(), is_durable=False)


def can_cut() -> bool:
    """Whether this system can shorten a file from the front."""
    return sys.platform == "linux"


def move_front(path: Path, keep: Path | None) -> int:
    """Move all whole blocks of a running log to `keep`, or nowhere; returns how many bytes that were.

    `keep` appears whole or not at all; after a crash in between `mend` goes on. Raises OSError: nothing is lost then.
    """
    with open(path, "r+b") as file, held(path):
        now = span(file.fileno(), path)
        end = (now.size - 1) // BLOCK * BLOCK
        if end <= now.first:
            return 0
        part = keep.with_name(keep.name + ".part") if keep is not None else None
        try:
            if part is not None:
                _copy(file, now.first, end, part)
            _remember(path, now.file, now.shift, end - now.first, now.size)
            if part is not None and keep is not None:
                os.replace(part, keep)
        except OSError:
            if part is not None:
                part.unlink(missing_ok=True)
            raise
        _cut(file.fileno(), path, now, end)
        return end - now.first


def mend(path: Path, kept: Path) -> None:
    """After a crash: a cut that was begun is made, so that no line stands in both files. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file, held(path):
        now = span(file.fileno(), path)
        shift, pending, before = _shift(path, now.file)
        if not pending:
            return
        end = now.first + pending
        if now.size < before or not _is_front(file, now.first, pending, kept):
            collapsed = pending if now.size < before else 0
            _remember(path, now.file, shift + collapsed)
        elif end < now.size:
            _cut(file.fileno(), path, now, end)


def _is_front(log: IO[bytes], first: int, count: int, kept: Path) -> bool:
    """Whether the log still begins with the bytes that were moved."""
    try:
        with open(kept, "rb") as other:
            if os.fstat(other.fileno()).st_size != count:
                return False
            log.seek(first)
            while piece := other.read(_PIECE):
                if log.read(len(piece)) != piece:
                    return False
    except FileNotFoundError:
        return False
    return True


def _copy(log: IO[bytes], start: int, end: int, target: Path) -> None:
    log.seek(start)
    with open(target, "wb") as out:
        while start < end:
            piece = log.read(min(_PIECE, end - start))
            if not piece:
                raise OSError("the log became shorter while it was rotated")
            out.write(piece)
            start += len(piece)


def _cut(fd: int, path: Path, now: Span, end: int) -> None:
    if now.first == 0 and _fallocate(fd, _COLLAPSE, end):
        _remember(path, now.file, now.shift + end)
    elif _fallocate(fd, _PUNCH, end):
        _remember(path, now.file, now.shift)
    else:
        raise OSError(f"the file system of {path} can neither collapse nor punch a file")


_COLLAPSE, _PUNCH = 0x08, 0x02 | 0x01


def _fallocate(fd: int, mode: int, length: int) -> bool:
    """fallocate(2) from the file's beginning; the standard library has only its plain form."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return int(libc.fallocate(fd, mode, 0, length)) == 0
