"""Rows of nodes."""

from __future__ import annotations

from typing import Any

from gdos.master.store.db import Db, Listing, Page, dumps, listing, row, rows
from gdos.master.store.reader import Row

LIST = Listing(
    select="SELECT * FROM nodes",
    key="id",
    sorts={"name": "name", "state": "state", "joined_at": "joined_at", "hostname": "hostname"},
    filters={"state": "state", "os": "os", "name": "name", "hostname": "hostname"},
    search=("name", "hostname", "address", "labels"),
    default_sort="name",
)


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, LIST, asked)


def get(db: Db, id_or_name: str) -> Row | None:
    return row(db, "SELECT * FROM nodes WHERE id = :x OR name = :x ORDER BY id = :x DESC", {"x": id_or_name})


def by_credential(db: Db) -> dict[str, str]:
    """Hash of the credential -> node, for all nodes that have one."""
    return {r["credential"]: r["id"] for r in rows(db, "SELECT id, credential FROM nodes WHERE credential IS NOT NULL")}


def with_credential(db: Db, hashed: str) -> Row | None:
    return row(db, "SELECT id, name FROM nodes WHERE credential = ?", (hashed,))


def states(db: Db) -> dict[str, str]:
    return {r["id"]: r["state"] for r in rows(db, "SELECT id, state FROM nodes")}


def many(db: Db, ids: list[str]) -> list[Row]:
    return rows(db, "SELECT * FROM nodes WHERE id IN (SELECT value FROM json_each(?))", (dumps(ids),))


def free_name(db: Db, wish: str) -> str:
    """`wish`, or with the first number that makes it unique."""
    taken = {
        r["name"] for r in rows(db, "SELECT name FROM nodes WHERE name = ? OR name GLOB ?", (wish, wish + "-[0-9]*"))
    }
    number, name = 1, wish
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name


def next_revision(db: Db, node: str) -> int:
    """Count up what is wanted on a node; the number belongs to the change that is being made."""
    found = db.execute(
        "UPDATE nodes SET wanted_revision = wanted_revision + 1 WHERE id = ? RETURNING wanted_revision", (node,)
    )
    return int(found.fetchall()[0][0])


def set_state(db: Db, ids: list[str], state: str, seen: dict[str, int]) -> None:
    """State and last contact of many nodes at once."""
    db.executemany(
        "UPDATE nodes SET state = ?, last_seen = coalesce(?, last_seen) WHERE id = ? AND state <> 'planned'",
        [(state, seen.get(id_), id_) for id_ in ids],
    )


def counts(db: Db) -> dict[str, int]:
    return {r["state"]: r["n"] for r in rows(db, "SELECT state, count(*) AS n FROM nodes GROUP BY state")}


def placed(db: Db) -> list[dict[str, Any]]:
    """Every node with the instances that it has: for placement."""
    return rows(
        db,
        "SELECT n.*, count(i.id) AS instances FROM nodes n LEFT JOIN instances i ON i.node = n.id AND i.present"
        " GROUP BY n.id ORDER BY n.name",
    )
