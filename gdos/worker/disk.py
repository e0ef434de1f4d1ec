"""The work folder: what lies where, and how it is read and written. Layout: docs/architecture.md."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from gdos.diskio import write_atomic, write_swapped
from gdos.filelock import FileLock
from gdos.model.errors import BadConfig, Conflict, Unavailable
from gdos.model.states import State
from gdos.model.wanted import Wanted
from gdos.worker.drivers.base import Handle

log = logging.getLogger(__name__)


class NodeFile(msgspec.Struct, frozen=True):
    """node.json: who this node is. `place` is where it was written: a copy elsewhere is noticed."""

    node: str
    name: str
    credential: str
    place: str


class OtherRun(msgspec.Struct, frozen=True):
    """A run of a schedule that goes on beside the present one (overlap: allow)."""

    number: int
    handle: Handle
    started_at: int
    log: str
    due: int | None = None


class Record(msgspec.Struct, kw_only=True):
    """instance.json: what runs here. Written at every change, before the change counts."""

    id: str
    name: str
    system: str
    module: str
    state: State = State.PENDING
    reason: str = ""
    handle: Handle | None = None
    started_at: int | None = None  # milliseconds since 1970
    current: str = ""
    tried: tuple[int, int] = (-1, -1)
    restarts: int = 0
    tries: int = 0  # restarts in a row
    launches: int = 0
    revision: int = 0
    config: str = ""  # of the last start
    log: str = ""  # name of the log of the last start; "" is app.log
    due: int | None = None  # when the schedule asked for the last start
    last_due: int = 0  # what a schedule has asked for up to here is done, skipped or missed
    others: list[OtherRun] = []
    oom: tuple[int, int] = (0, 0)  # the kernel's counts at the last start
    cleared: str = ""  # the release whose pre_upgrade hook has passed
    refused: int = -1  # the wanted revision that a pre_* hook refused
    switched: bool = False  # another release was made current, and has not been ready since


class WorkDir:
    """Opens (makes) the folder and holds its lock. Raises Unavailable, Conflict."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            for folder in (self.cache, self.instances):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.root / "worker.lock")
        except BlockingIOError as e:
            said = f"another worker uses the work folder {self.root}: give this one its own --work-dir"
            raise Conflict(said) from e
        except OSError as e:
            said = f"the work folder {self.root} cannot be written ({e.strerror}): check owner and rights"
            raise Unavailable(said + ", or name another with --work-dir") from e

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    def close(self) -> None:
        self._lock.release()

    # --- node.json

    def read_node(self) -> NodeFile | None:
        """Raises BadConfig when it is there and cannot be read."""
        path = self.root / "node.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=NodeFile)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as e:
            raise BadConfig(f"{path}: cannot be read ({e}): restore it, or delete it to join as a new node") from e

    def write_node(self, node: NodeFile) -> None:
        write_atomic(self.root / "node.json", msgspec.json.encode(node), mode=0o600)

    # --- wanted.json

    def read_wanted(self) -> tuple[int, dict[str, Wanted]]:
        """The revision and the list; a file that cannot be read is set aside and the master is asked for all."""
        path = self.root / "wanted.json"
        try:
            raw: dict[str, Any] = json.loads(path.read_bytes())
            items = msgspec.convert(raw["items"], list[Wanted])
            return int(raw["revision"]), {item.id: item for item in items}
        except FileNotFoundError:
            return -1, {}
        except (ValueError, KeyError, TypeError, msgspec.ValidationError) as e:
            log.error("%s cannot be read (%s): set aside as wanted.json.bad", path, e)
            os.replace(path, path.with_suffix(".json.bad"))
            return -1, {}

    def write_wanted(self, revision: int, wanted: dict[str, Wanted]) -> None:
        data = msgspec.json.encode({"revision": revision, "items": list(wanted.values())})
        write_atomic(self.root / "wanted.json", data, mode=0o600)

    # --- instances

    def folder(self, want: Wanted | Record) -> InstanceFolder:
        """The folder of an instance, which need not be there yet."""
        short = want.id.rpartition("-")[2][:8]
        name = f"{_plain(want.module)}-{short}"
        return InstanceFolder(self.instances / _plain(want.system) / name)

    def records(self) -> list[Record]:
        """All instances on the disk; one whose file is damaged is left alone and said."""
        found = []
        for path in sorted(self.instances.glob("*/*/instance.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except (msgspec.DecodeError, OSError) as e:
                log.error("%s cannot be read (%s)", path, e)
        return found


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:64] or "_"


class InstanceFolder:
    """instances/<system>/<module>-<short id>/"""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def mark(self) -> str:
        return str(self.root)

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def app_log(self) -> Path:
        return self.root / "logs" / "app.log"

    def log(self, name: str) -> Path:
        """A log by its file's name; '' is app.log."""
        return self.logs / name if name else self.app_log

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    def release(self, sha256: str) -> Path:
        return self.releases / sha256

    def make(self) -> None:
        for folder in (self.releases, self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def fetched(self) -> frozenset[str]:
        """SHA-256 of the releases that are unpacked whole: a half-done one has another name."""
        if not self.releases.is_dir():
            return frozenset()
        return frozenset(p.name for p in self.releases.iterdir() if re.fullmatch(r"[0-9a-f]{64}", p.name))

    def write(self, record: Record) -> None:
        """It survives the worker, not a power cut: after that no process is left anyway."""
        data = msgspec.json.encode(record)
        try:
            write_swapped(self.root / "instance.json", data, mode=0o600)
        except FileNotFoundError:
            self.root.mkdir(parents=True, exist_ok=True)
            write_swapped(self.root / "instance.json", data, mode=0o600)

    def point_current(self, sha256: str) -> None:
        """The link `current`, for people and scripts; instance.json is what counts."""
        if os.name == "nt":
            write_atomic(self.root / "current", sha256.encode())
            return
        temporary = self.root / ".current"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("releases") / sha256)
        os.replace(temporary, self.root / "current")

    def prune(self, keep: set[str], count: int) -> None:
        """Remove the oldest releases beyond `count`, never one of `keep`, and what half-done unpacking left."""
        whole = sorted(self.fetched() - keep, key=lambda name: self.release(name).stat().st_mtime)
        excess = max(0, len(whole) + len(keep) - count)
        for name in whole[:excess]:
            shutil.rmtree(self.release(name), ignore_errors=True)
        for leftover in (*self.releases.glob("*.part"), *self.releases.glob("*.staged")):
            shutil.rmtree(leftover, ignore_errors=True)

    def destroy(self) -> None:
        """All of it, and the system's folder when it was the last. Raises OSError."""
        if self.root.exists():
            grave = self.root.with_name(f".gone-{self.root.name}")
            shutil.rmtree(grave, ignore_errors=True)
            os.replace(self.root, grave)
            shutil.rmtree(grave)
        try:
            self.root.parent.rmdir()
        except OSError:
            return  # other instances of the system are there
