"""Bring a database to this version: numbered SQL files, each in one transaction together with its number."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources
from pathlib import Path

from gdos.model.errors import BadConfig, DataTooNew, Unavailable

SQLITE_MIN = (3, 37, 0)


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) in order."""
    folder = resources.files("gdos.master.store.schema")
    names = sorted(f.name for f in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name))
    return [(int(name[:4]), (folder / name).read_text(encoding="utf-8")) for name in names]


def migrate(path: Path) -> int:
    """Create or upgrade the database at `path`; returns its version.

    A backup file is made before an upgrade. Raises DataTooNew for a newer database, BadConfig when it cannot be used.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise BadConfig(f"SQLite {sqlite3.sqlite_version} is too old; this Python needs at least 3.37")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.Error) as e:
        raise _unusable(path, e) from e
    try:
        return _upgrade(db, path)
    except sqlite3.Error as e:
        raise _unusable(path, e) from e
    finally:
        db.close()


def _upgrade(db: sqlite3.Connection, path: Path) -> int:
    steps = migrations()
    newest = steps[-1][0]
    have: int = db.execute("PRAGMA user_version").fetchone()[0]
    if have > newest:
        raise DataTooNew(
            f"the database {path} has version {have}, this gdos knows up to {newest}: use the newer gdos that wrote it"
        )
    if have == newest:
        return have
    if have:
        backup = path.with_name(f"{path.name}.before-{newest:04d}")
        with sqlite3.connect(backup) as copy:
            db.backup(copy)
        copy.close()
    db.execute("PRAGMA journal_mode=WAL")
    for number, sql in steps:
        if number > have:
            db.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={number};\nCOMMIT;")
    return newest


def _unusable(path: Path, error: Exception) -> Unavailable | BadConfig:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return BadConfig(
            f"{path} is not a database of gdos, or it is damaged ({text}): restore a backup, or name another"
        )
    return Unavailable(f"the database {path} cannot be opened ({text}): check the folder, its owner and its free space")
