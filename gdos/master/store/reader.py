"""Read-only connections, one per thread. They never checkpoint and never block the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdos.master.store.writer import explain

Row = dict[str, Any]


class Reader:
    """Short reads: every query fetches all of its rows at once, so that no cursor holds the WAL back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """All rows as dicts. Raises GdosError when the database cannot be read."""
        try:
            return [dict(row) for row in self.connection().execute(sql, values).fetchall()]
        except sqlite3.Error as e:
            raise explain(e, self._path) from e

    def row(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def connection(self) -> sqlite3.Connection:
        """This thread's own connection."""
        db = getattr(self._local, "db", None)
        if db is None:
            uri = f"file:{_quoted(self._path)}?mode=ro"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA busy_timeout=5000")
            db.execute("PRAGMA query_only=ON")
            self._local.db = db
            with self._lock:
                self._all.append(db)
        return db

    def close(self) -> None:
        """Close every thread's connection; call when no thread reads any more."""
        with self._lock:
            for db in self._all:
                db.close()
            self._all.clear()


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
