"""Getting a release onto the node: fetch, unpack, check that it can run here. In the pool."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gdos.model.wanted import Release
from gdos.pack.zipguard import Cancelled
from gdos.worker.disk import InstanceFolder
from gdos.worker.executor.fetch import Cache, Source, explain_disk, unpack
from gdos.worker.executor.launch import check_fit, link_data
from gdos.worker.platform.base import Platform


@dataclass(frozen=True, slots=True)
class Means:
    """What bringing a release here needs."""

    cache: Cache
    source: Source
    system: Platform


def bring(release: Release, folder: InstanceFolder, means: Means, stop: threading.Event) -> None:
    """The release unpacked in the instance's folder. Raises GdosError: Refused and bad_package are final."""

    def check() -> None:
        if stop.is_set():
            raise Cancelled("no longer wanted")

    try:
        _bring(release, folder, means, check)
    except OSError as e:
        raise explain_disk(e, folder.root) from e


def _bring(release: Release, folder: InstanceFolder, means: Means, check: Callable[[], None]) -> None:
    folder.make()
    path = means.cache.fetch(release, means.source, check)
    staged = folder.releases / f"{release.sha256}.staged"
    shutil.rmtree(staged, ignore_errors=True)
    manifest = unpack(path, staged, check).manifest
    check_fit(manifest, staged, means.system)
    link_data(manifest, folder, staged)
    staged.replace(folder.release(release.sha256))
