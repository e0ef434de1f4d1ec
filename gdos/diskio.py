"""The one way in which this program replaces a file: all of it or none of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, is_durable: bool = True) -> None:
    """Put `data` in place of `path`. `is_durable`: it survives a power cut; without, the death of this process.

    Raises OSError; the old file stays then and nothing else is left.
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            if sys.platform != "win32":
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if is_durable:
        sync_folder(path.parent)


def write_swapped(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` in place of `path`, for a small file that ONE writer replaces again and again. Raises OSError.

    Atomic for every reader and for the death of this process, not for a power cut. Linux swaps the names of the file
    and of a spare one beside it, so that no file is made: a tenth of the cost.
    """
    spare = path.with_name(f".{path.name}.spare")
    fd = os.open(spare, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.truncate()
    except OSError:
        spare.unlink(missing_ok=True)
        raise
    if not _exchange(spare, path):
        os.replace(spare, path)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2), which the standard library does not have; False where it cannot, or one is not there yet."""
    if sys.platform != "linux":
        return False
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    return bool(call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def sync_folder(folder: Path) -> None:
    """A rename counts once its folder is on the disk; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
