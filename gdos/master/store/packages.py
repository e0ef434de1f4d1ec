"""Rows of packages."""

from __future__ import annotations

from gdos.master.store.db import Db, Listing, Page, listing, row, rows
from gdos.master.store.reader import Row

_IN_USE = """(
    EXISTS (SELECT 1 FROM instances i
        WHERE i.package = p.name AND p.version IN (i.version, i.previous_version, i.staged))
    OR EXISTS (SELECT 1 FROM modules m WHERE m.package = p.name AND p.version IN (m.version, m.previous_version))
)"""
_SELECT = f"SELECT p.*, p.name || ':' || p.version AS key, {_IN_USE} AS in_use FROM packages p"
LIST = Listing(
    select=_SELECT,
    key="key",
    sorts={"name": "name", "version": "version", "uploaded_at": "uploaded_at", "size": "size"},
    filters={"name": "name", "version": "version", "os": "os", "sha256": "sha256"},
    search=("name", "version", "description"),
    default_sort="name",
)


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, LIST, asked)


def get(db: Db, name: str, version: str) -> Row | None:
    return row(db, f"SELECT * FROM ({_SELECT}) WHERE name = ? AND version = ?", (name, version))


def versions(db: Db, name: str) -> list[str]:
    """Newest upload first."""
    sql = "SELECT version FROM packages WHERE name = ? ORDER BY uploaded_at DESC, version DESC"
    return [r["version"] for r in rows(db, sql, (name,))]


def names(db: Db) -> list[str]:
    return [r["name"] for r in rows(db, "SELECT DISTINCT name FROM packages ORDER BY name")]


def users_of(db: Db, name: str, version: str) -> list[str]:
    """What refers to a version: modules and instances, as 'system/name'."""
    found = rows(
        db,
        "SELECT s.name || '/' || m.name AS who FROM modules m JOIN systems s ON s.id = m.system"
        " WHERE m.package = :n AND :v IN (m.version, m.previous_version)"
        " UNION SELECT s.name || '/' || i.name FROM instances i JOIN systems s ON s.id = i.system"
        " WHERE i.package = :n AND :v IN (i.version, i.previous_version, i.staged) ORDER BY 1",
        {"n": name, "v": version},
    )
    return [r["who"] for r in found]


def is_stored(db: Db, sha256: str) -> bool:
    return row(db, "SELECT 1 FROM packages WHERE sha256 = ?", (sha256,)) is not None


def hashes(db: Db) -> set[str]:
    return {r["sha256"] for r in rows(db, "SELECT DISTINCT sha256 FROM packages")}


def is_for_node(db: Db, name: str, version: str, node: str) -> bool:
    """Whether an instance of this node runs, or ran last, that version: what a node may download."""
    sql = "SELECT 1 FROM instances WHERE node = ? AND package = ? AND ? IN (version, previous_version, staged)"
    return row(db, sql, (node, name, version)) is not None


def totals(db: Db) -> tuple[int, int]:
    """How many versions, and the bytes of the distinct ones."""
    found = row(db, "SELECT count(*) AS n FROM packages")
    size = row(db, "SELECT coalesce(sum(size), 0) AS n FROM (SELECT DISTINCT sha256, size FROM packages)")
    return (found or {"n": 0})["n"], (size or {"n": 0})["n"]
