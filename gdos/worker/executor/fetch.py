"""Packages onto the node: downloaded with resume, verified by SHA-256, shared between instances, pruned by size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gdos.diskio import sync_folder
from gdos.model.errors import GdosError, StorageFull, Unreachable
from gdos.model.manifest import Checked
from gdos.model.values import format_size
from gdos.model.wanted import Release
from gdos.pack.check import check_archive
from gdos.pack.zipguard import Archive

log = logging.getLogger(__name__)
PIECE = 256 << 10
RESERVE = 16 << 20
"""Bytes that a download or an unpacking leaves free for the services' own logs."""


class Refused(GdosError):
    """A package that this node will not run, however often it is tried."""

    code, title, status = "package_refused", "The package cannot run here", 409


@dataclass(frozen=True, slots=True)
class Source:
    """Where packages come from: the master and this node's credential."""

    url: str
    credential: str


class Cache:
    """cache/<sha256>.zip. One download at a time for the same bytes."""

    def __init__(self, folder: Path, max_size: int) -> None:
        self._folder = folder
        self._max_size = max_size
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def fetch(self, release: Release, source: Source, check: Callable[[], None]) -> Path:
        """The verified file. `check` may raise to stop it. Raises GdosError; what came so far is kept for a resume."""
        with self._guard:
            lock = self._locks.setdefault(release.sha256, threading.Lock())
        with lock:
            path = self._folder / f"{release.sha256}.zip"
            if path.is_file() and path.stat().st_size == release.size and _sha256(path, check) == release.sha256:
                os.utime(path)
                return path
            path.unlink(missing_ok=True)
            part = self._folder / f"{release.sha256}.part"
            try:
                self._download(release, source, part, check)
                os.replace(part, path)
                sync_folder(self._folder)
            except OSError as e:
                raise explain_disk(e, self._folder) from e
            self._prune(path)
            return path

    def _download(self, release: Release, source: Source, part: Path, check: Callable[[], None]) -> None:
        import urllib3

        have = part.stat().st_size if part.is_file() else 0
        if have > release.size:
            part.unlink()
            have = 0
        check_space(self._folder, release.size - have)
        if have < release.size:
            url = f"{source.url}/api/v1/packages/{release.package}/{release.version}/download"
            try:
                self._stream(url, release, source, part, have, check)
            except urllib3.exceptions.HTTPError as e:
                got = part.stat().st_size if part.is_file() else 0
                said = f"the download of {release.package} {release.version} broke off at {got} of {release.size} bytes"
                raise Unreachable(f"{said} ({type(e).__name__}); it will be resumed") from e
        digest = _sha256(part, check)
        if part.stat().st_size == release.size and digest == release.sha256:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            return
        part.unlink()
        said = f"the download of {release.package} {release.version} has SHA-256 {digest[:12]}..., the master's record"
        raise Unreachable(f"{said} says {release.sha256[:12]}...; thrown away, downloaded again")

    def _stream(
        self, url: str, release: Release, source: Source, part: Path, have: int, check: Callable[[], None]
    ) -> None:
        import urllib3

        headers = {"Authorization": f"Bearer {source.credential}", "Accept-Encoding": "identity"}
        if have:
            headers.update({"Range": f"bytes={have}-", "If-Range": f'"{release.sha256}"'})
        timeout = urllib3.Timeout(connect=10, read=30)
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            answer = pool.request("GET", url, headers=headers, preload_content=False, decode_content=False)
            try:
                if answer.status not in (200, 206):
                    text = answer.read(2000).decode(errors="replace")
                    raise Unreachable(f"the master refused the download with {answer.status}: {_detail(text)}")
                with open(part, "r+b" if answer.status == 206 else "wb") as out:
                    out.seek(have if answer.status == 206 else 0)
                    while piece := answer.read(PIECE):
                        check()
                        out.write(piece)
            finally:
                answer.close()

    def _prune(self, keep: Path) -> None:
        """The longest unused go when the cache is larger than it may be."""
        files = [p for p in self._folder.glob("*.zip") if p != keep]
        with contextlib.suppress(FileNotFoundError):
            files.sort(key=lambda p: p.stat().st_mtime)
            total = keep.stat().st_size + sum(p.stat().st_size for p in files)
            for path in files:
                if total <= self._max_size:
                    return
                total -= path.stat().st_size
                path.unlink()

    def make_room(self, keep: set[str]) -> int:
        """The disk is short: remove all that is not about to be used; returns the bytes freed."""
        freed = 0
        for path in [*self._folder.glob("*.zip"), *self._folder.glob("*.part")]:
            if path.stem not in keep:
                with contextlib.suppress(FileNotFoundError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed


def unpack(archive_path: Path, target: Path, check: Callable[[], None]) -> Checked:
    """A verified package as the folder `target`, whole or not at all. Raises GdosError."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with Archive(archive_path) as archive:
            checked = check_archive(archive)
            check_space(target.parent, sum(info.file_size for info in archive.names.values()))
            archive.extract(part, check)
        os.replace(part, target)
        sync_folder(target.parent)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise explain_disk(e, target.parent) from e
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return checked


def check_space(folder: Path, needed: int) -> None:
    """Raises StorageFull in words before a byte is written."""
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise StorageFull(
            f"the disk of {folder} has {format_size(free)} free; {format_size(needed)} are needed and"
            f" {format_size(RESERVE)} must stay free"
        )


def explain_disk(error: OSError, folder: Path) -> GdosError:
    """A failing disk as a sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"the disk of {folder} is full; it goes on by itself when there is room")
    return GdosError(f"{folder}: {error.strerror or error}")


def _sha256(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            check()
            digest.update(piece)
    return digest.hexdigest()


def _detail(text: str) -> str:
    import json

    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200]
