"""Package bytes in a folder: `<folder>/ab/abcdef...`, uploads first in `<folder>/tmp`."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from gdos.diskio import sync_folder
from gdos.master.blobs.base import PIECE, Received
from gdos.model.errors import GdosError, Malformed, NotFound, StorageFull, TooLarge, Unavailable
from gdos.model.values import format_size

RESERVE = 32 << 20
"""Bytes that an upload must leave free, for the database and for what else lives on the disk."""


class LocalBlobs:
    """Raises Unavailable at the start when the folder cannot be written."""

    def __init__(self, folder: Path, reserve: int = RESERVE) -> None:
        self._folder = folder
        self._incoming = folder / "tmp"
        self._reserve = reserve
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            probe = self._incoming / f"probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as e:
            raise Unavailable(
                f"the package folder {folder} cannot be written ({e.strerror}): check owner and rights"
            ) from e

    def receive(self, read: Callable[[int], bytes], declared: int | None, limit: int) -> Received:
        if declared is not None and declared > limit:
            raise TooLarge(f"the package has {format_size(declared)}, at most {format_size(limit)} are allowed")
        self._check_space(declared or 0)
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            size, digest = self._take(path, read, limit)
            if declared is not None and size != declared:
                raise Malformed(f"the upload broke off: {size} of {declared} bytes came")
        except OSError as e:
            path.unlink(missing_ok=True)
            raise self._explain(e) from e
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Received(path, digest, size)

    def _take(self, path: Path, read: Callable[[int], bytes], limit: int) -> tuple[int, str]:
        digest = hashlib.sha256()
        size = 0
        unchecked = 0
        with open(path, "xb") as out:
            while piece := read(PIECE):
                size += len(piece)
                unchecked += len(piece)
                if size > limit:
                    raise TooLarge(f"the package is larger than {format_size(limit)}, the most that is allowed")
                if unchecked > 16 << 20:
                    self._check_space(0)
                    unchecked = 0
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        return size, digest.hexdigest()

    def keep(self, received: Received) -> None:
        target = self._path(received.sha256)
        try:
            target.parent.mkdir(exist_ok=True)
            os.replace(received.path, target)
            sync_folder(target.parent)
        except OSError as e:
            raise self._explain(e) from e

    def discard(self, received: Received) -> None:
        received.path.unlink(missing_ok=True)

    def open(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        path = self._path(sha256)
        try:
            file = open(path, "rb")  # noqa: SIM115 - the generator closes it
        except FileNotFoundError as e:
            raise NotFound(f"the bytes {sha256} are not in the package folder {self._folder}") from e

        def pieces() -> Iterator[bytes]:
            with file:
                file.seek(start)
                left = None if end is None else end - start
                while left is None or left > 0:
                    piece = file.read(PIECE if left is None else min(PIECE, left))
                    if not piece:
                        return
                    left = None if left is None else left - len(piece)
                    yield piece

        return pieces()

    def delete(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def tidy(self, known: set[str]) -> list[str]:
        for leftover in self._incoming.iterdir():
            leftover.unlink(missing_ok=True)
        removed = []
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            if path.name not in known:
                path.unlink(missing_ok=True)
                removed.append(path.name)
        return removed

    def missing(self, known: set[str]) -> set[str]:
        return {sha256 for sha256 in known if not self._path(sha256).is_file()}

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed + self._reserve:
            raise StorageFull(
                f"the disk of {self._folder} has {format_size(free)} free; the upload needs {format_size(needed)} and"
                f" {format_size(self._reserve)} must stay free: remove old versions or add space"
            )

    def _explain(self, error: OSError) -> GdosError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"the disk of {self._folder} is full: remove old versions or add space, then try again")
        return Unavailable(f"the package folder {self._folder} cannot be used: {error.strerror}")
