"""A lock that ends with its process, however it ends."""

from __future__ import annotations

import sys
from pathlib import Path


class FileLock:
    """Held from the moment it is made. Raises BlockingIOError when another process holds it, OSError otherwise."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 - held until release
        try:
            self._take()
        except BaseException:
            self._file.close()
            raise

    def _take(self) -> None:
        if sys.platform == "win32":
            import msvcrt

            self._file.seek(0)
            try:
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as e:
                raise BlockingIOError(str(e)) from e
        else:
            import fcntl

            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Let go; safe to call twice."""
        self._file.close()
