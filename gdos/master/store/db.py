"""The store as the services see it, and the few statements that every table needs."""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gdos.master.store.migrate import migrate
from gdos.master.store.reader import Reader, Row
from gdos.master.store.writer import Writer
from gdos.model.errors import BadInput, Problem

Db = sqlite3.Connection
T = TypeVar("T")


class Store:
    """One database: `write(fn)` commits, `read()` is this thread's read-only connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = migrate(path)
        self.writer = Writer(path)
        self.reader = Reader(path)

    def write(self, fn: Callable[[Db], T]) -> T:
        """What `fn(db)` returns, once it is on the disk."""
        return self.writer.write(fn)

    def read(self) -> Db:
        """For queries; every one of them must fetch all its rows."""
        return self.reader.connection()

    def close(self) -> None:
        """Commit what waits and close all connections."""
        self.writer.close()
        self.reader.close()


def rows(db: Db, sql: str, values: Any = ()) -> list[Row]:
    """All rows of a query as dicts."""
    return [dict(row) for row in db.execute(sql, values).fetchall()]


def row(db: Db, sql: str, values: Any = ()) -> Row | None:
    """The first row as a dict, or None."""
    found = db.execute(sql, values).fetchone()
    return None if found is None else dict(found)


def insert(db: Db, table: str, values: Mapping[str, Any]) -> None:
    """One new row; the names are the program's own, never a user's."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", dict(values))


def update(db: Db, table: str, key: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Change the rows that match `key`; returns how many there were."""
    sets = ", ".join(f"{name} = :{name}" for name in values)
    where = " AND ".join(f"{name} = :key_{name}" for name in key)
    found = db.execute(
        f"UPDATE {table} SET {sets} WHERE {where}", {**values, **{f"key_{k}": v for k, v in key.items()}}
    )
    return found.rowcount


def dumps(value: Any) -> str:
    """JSON for a column."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list of one table allows: `sorts` and `filters` map the API's names to columns, `search` is for `q`."""

    select: str
    key: str
    sorts: dict[str, str]
    filters: dict[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    default_sort: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a caller asks of a list. `sort` starts with '-' for descending."""

    limit: int = 100
    cursor: str = ""
    sort: str = ""
    q: str = ""
    filters: dict[str, str] = field(default_factory=dict)


def listing(db: Db, spec: Listing, page: Page) -> tuple[list[Row], str | None]:
    """A page of rows and the cursor of the next. Keyset paging: rows that come or go never shift the others.

    Raises BadInput for an unknown sort or cursor.
    """
    sort = page.sort or spec.default_sort
    name, is_down = sort.removeprefix("-"), sort.startswith("-")
    if name not in spec.sorts:
        allowed = f"expected one of {', '.join(sorted(spec.sorts))}, with - in front for descending, got {sort!r}"
        raise BadInput(f"sort: {allowed}", [Problem("sort", allowed)])
    column = spec.sorts[name]
    where, values = _conditions(spec, page)
    if page.cursor:
        sign = "<" if is_down else ">"
        where.append(f"({column}, {spec.key}) {sign} (:after, :after_key)")
        values["after"], values["after_key"] = _read_cursor(page.cursor)
    order = "DESC" if is_down else "ASC"
    sql = f"SELECT *, {column} AS _sort, {spec.key} AS _key FROM ({spec.select})"
    if where:
        sql += " WHERE " + " AND ".join(where)
    sql += f" ORDER BY {column} {order}, {spec.key} {order} LIMIT :limit"
    found = rows(db, sql, {**values, "limit": page.limit + 1})
    cursor = None
    if len(found) > page.limit:
        found.pop()
        cursor = _cursor(found[-1]["_sort"], found[-1]["_key"])
    for item in found:
        del item["_sort"], item["_key"]
    return found, cursor


def _conditions(spec: Listing, page: Page) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    for i, (name, value) in enumerate(page.filters.items()):
        where.append(f"{spec.filters[name]} = :filter_{i}")
        values[f"filter_{i}"] = value
    if page.q and spec.search:
        where.append("(" + " OR ".join(f"instr(lower({column}), lower(:q)) > 0" for column in spec.search) + ")")
        values["q"] = page.q
    return where, values


def _cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(dumps(parts).encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[Any, Any]:
    try:
        first, second = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not all(isinstance(part, (str, int, float, type(None))) for part in (first, second)):
            raise ValueError("not a cursor")
    except (ValueError, TypeError, binascii.Error, UnicodeDecodeError) as e:
        said = "expected the next_cursor of an earlier answer"
        raise BadInput(f"cursor: {said}", [Problem("cursor", said)]) from e
    return first, second
