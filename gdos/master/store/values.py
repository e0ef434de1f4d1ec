"""Versions of the configuration of systems, modules and instances."""

from __future__ import annotations

from collections.abc import Iterable

from gdos.master.store.db import Db, Listing, Page, dumps, listing, row, rows
from gdos.master.store.reader import Row

HISTORY = Listing(
    select="SELECT * FROM config_versions",
    key="number",
    sorts={"number": "number"},
    filters={"scope": "scope"},
    default_sort="-number",
)


def latest(db: Db, scopes: Iterable[str]) -> dict[str, Row]:
    """The newest version of each of these scopes that has one."""
    found = rows(
        db,
        "SELECT scope, max(number) AS number, at, who, note, entries FROM config_versions"
        " WHERE scope IN (SELECT value FROM json_each(?)) GROUP BY scope",
        (dumps(list(scopes)),),
    )
    return {r["scope"]: r for r in found}


def version(db: Db, scope: str, number: int) -> Row | None:
    return row(db, "SELECT * FROM config_versions WHERE scope = ? AND number = ?", (scope, number))


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, HISTORY, asked)


def delete(db: Db, scopes: Iterable[str]) -> None:
    db.execute("DELETE FROM config_versions WHERE scope IN (SELECT value FROM json_each(?))", (dumps(list(scopes)),))


def scopes_with_secrets(db: Db) -> list[str]:
    """Those whose newest version holds a secret."""
    newest = rows(db, "SELECT scope, max(number) AS number, entries FROM config_versions GROUP BY scope")
    return [r["scope"] for r in newest if '{"s":' in r["entries"]]
