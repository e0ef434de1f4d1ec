"""The one writer: a thread that owns the only read-write connection and commits what waits as one batch.

A write is a function that takes the connection. Each runs in a savepoint of its own, so that one that fails does not
harm the others of its batch; nobody is answered before the batch is on the disk (synchronous=FULL).
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from gdos.model.errors import GdosError, StorageFull, Unavailable

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]
_Job = tuple[Write[Any], "Future[Any]"]
_BATCH_MAX = 512
_CHECKPOINT_S = 300.0
log = logging.getLogger(__name__)


def connect(path: Path) -> sqlite3.Connection:
    """A read-write connection with the settings that all of them must have."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    db.row_factory = sqlite3.Row
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=5000",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "journal_size_limit=67108864",
    ):
        db.execute(f"PRAGMA {pragma}")
    return db


class Writer:
    """Runs writes in order on its own thread. `write` waits for the commit, `submit` gives a future of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self._lock = threading.Lock()
        self._db = connect(path)
        self._thread = threading.Thread(target=self._run, name="db-writer", daemon=True)
        self._thread.start()

    def write(self, fn: Write[T], timeout_s: float = 30.0) -> T:
        """The result of `fn`, once it is committed. Raises what `fn` raises, StorageFull, Unavailable."""
        try:
            return self.submit(fn).result(timeout_s)
        except TimeoutError as e:
            raise Unavailable(f"the database did not answer within {timeout_s:.0f} s; is its disk failing?") from e

    def submit(self, fn: Write[T]) -> Future[T]:
        """The same without waiting; for the event loop, which must never wait."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise Unavailable("the master is stopping")
            self._queue.put((fn, future))
        return future

    def close(self) -> None:
        """Run what waits, then close. Safe to call twice."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        checkpoint_at = time.monotonic() + _CHECKPOINT_S
        is_open = True
        while is_open:
            batch: list[_Job] = []
            job = self._wait(checkpoint_at - time.monotonic())
            while job is not None:
                batch.append(job)
                if len(batch) >= _BATCH_MAX or self._queue.empty():
                    break
                job = self._queue.get()
            is_open = job is not None
            batch = [(fn, future) for fn, future in batch if fn is not _idle]
            if batch:
                self._commit(batch)
            if time.monotonic() >= checkpoint_at:
                self._checkpoint()
                checkpoint_at = time.monotonic() + _CHECKPOINT_S
        self._checkpoint()
        self._db.close()

    def _wait(self, timeout_s: float) -> _Job | None:
        try:
            return self._queue.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return _idle, Future()

    def _commit(self, batch: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for fn, future in batch:
                self._run_one(fn, future, done)
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            self._rollback()
            error = explain(e, self._path)
            log.error("database: %s", error.detail)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)

    def _run_one(self, fn: Write[Any], future: Future[Any], done: list[tuple[Future[Any], Any]]) -> None:
        self._db.execute("SAVEPOINT one")
        try:
            result = fn(self._db)
        except sqlite3.Error as e:
            self._undo_one()
            future.set_exception(explain(e, self._path))
        except Exception as e:  # noqa: BLE001 - it belongs to the caller, who waits for it
            self._undo_one()
            future.set_exception(e)
        else:
            self._db.execute("RELEASE one")
            done.append((future, result))

    def _undo_one(self) -> None:
        self._db.execute("ROLLBACK TO one")
        self._db.execute("RELEASE one")

    def _rollback(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error as e:
                log.error("database: rollback failed: %s", e)

    def _checkpoint(self) -> None:
        """Keep the WAL short; a failing disk shows at the next write, with its reason."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as e:
            log.warning("database: checkpoint failed: %s", e)


def _idle(_: sqlite3.Connection) -> None:
    """Stands in the queue's place when nothing came before the next checkpoint."""


def explain(error: sqlite3.Error, path: Path) -> GdosError:
    """An SQLite error as a sentence with what to do."""
    text = str(error)
    if "disk is full" in text or "disk I/O error" in text:
        return StorageFull(f"the database {path} cannot be written ({text}): make room on its disk")
    if "malformed" in text or "not a database" in text:
        return GdosError(f"the database {path} is damaged ({text}): restore a backup")
    if "readonly" in text or "unable to open" in text:
        return Unavailable(f"the database {path} cannot be written ({text}): check its folder's owner and rights")
    return GdosError(f"the database {path} refused: {text}")
