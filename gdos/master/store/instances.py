"""Rows of instances and of their timeline."""

from __future__ import annotations

from typing import Any

from gdos.master.store.db import Db, Listing, Page, dumps, listing, row, rows
from gdos.master.store.reader import Row

_CONFIG = " || '.' || ".join(
    f"coalesce((SELECT max(number) FROM config_versions WHERE scope = i.{level}), 0)"
    for level in ("system", "module", "id")
)
_SELECT = (
    "SELECT i.*, s.name AS system_name, m.name AS module_name, n.name AS node_name, n.state AS node_state,"
    f" {_CONFIG} AS config"
    " FROM instances i JOIN systems s ON s.id = i.system JOIN modules m ON m.id = i.module"
    " JOIN nodes n ON n.id = i.node"
)
LIST = Listing(
    select=_SELECT,
    key="id",
    sorts={"name": "name", "state": "state", "created_at": "created_at", "system": "system_name", "node": "node_name"},
    filters={
        "state": "state",
        "node": "node",
        "system": "system",
        "module": "module",
        "name": "name",
        "package": "package",
    },
    search=("name", "system_name", "module_name", "node_name", "package", "reason"),
    default_sort="name",
)


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, LIST, asked)


def get(db: Db, id_: str) -> Row | None:
    return row(db, f"SELECT * FROM ({_SELECT}) WHERE id = ?", (id_,))


def many(db: Db, ids: list[str]) -> list[Row]:
    return rows(db, f"SELECT * FROM ({_SELECT}) WHERE id IN (SELECT value FROM json_each(?))", (dumps(ids),))


def everything(db: Db) -> list[Row]:
    return rows(db, f"{_SELECT} ORDER BY system_name, i.name")


def placed(db: Db, node: str | None = None) -> list[Row]:
    """What placement has to know of all instances, or of one node's."""
    sql = (
        "SELECT i.node, i.module, i.name, i.ports, s.name AS system_name FROM instances i"
        f" JOIN systems s ON s.id = i.system {'' if node is None else 'WHERE i.node = :node'}"
    )
    return rows(db, sql, {"node": node})


def of_module(db: Db, module: str) -> list[Row]:
    return rows(db, f"SELECT * FROM ({_SELECT}) WHERE module = ? AND present ORDER BY name", (module,))


def of_system(db: Db, system: str) -> list[Row]:
    return rows(db, f"SELECT * FROM ({_SELECT}) WHERE system = ? AND present ORDER BY name", (system,))


def below(db: Db, scope: str) -> list[Row]:
    """The present instances of a system or a module, or one instance itself."""
    sql = "SELECT * FROM instances WHERE ? IN (system, module, id) AND present"
    return rows(db, sql, (scope,))


def of_node(db: Db, node: str) -> list[Row]:
    return rows(db, "SELECT * FROM instances WHERE node = ?", (node,))


def ids_of_nodes(db: Db, nodes: list[str]) -> list[str]:
    sql = "SELECT id FROM instances WHERE node IN (SELECT value FROM json_each(?))"
    return [r["id"] for r in rows(db, sql, (dumps(nodes),))]


def named(db: Db, name: str) -> list[Row]:
    """By id, by the beginning of an id (4 characters or more), or by name."""
    sql = (
        f"SELECT * FROM ({_SELECT}) WHERE id = :x OR name = :x OR (length(:x) >= 4 AND substr(id, 1, length(:x)) = :x)"
    )
    found = rows(db, sql, {"x": name})
    return [r for r in found if r["id"] == name] or found


def names_in(db: Db, system: str) -> set[str]:
    return {r["name"] for r in rows(db, "SELECT name FROM instances WHERE system = ?", (system,))}


def wanted_since(db: Db, node: str, revision: int) -> list[Row]:
    """What changed on a node after that revision, oldest first; -1 for all."""
    sql = f"SELECT * FROM ({_SELECT}) WHERE node = ? AND revision > ? ORDER BY revision, id"
    return rows(db, sql, (node, revision))


def counts(db: Db) -> list[Row]:
    return rows(
        db,
        "SELECT CASE WHEN n.state = 'online' THEN i.state ELSE 'unknown' END AS state, count(*) AS n"
        " FROM instances i JOIN nodes n ON n.id = i.node GROUP BY 1",
    )


def add_event(db: Db, instance: str, at: int, kind: str, state: str, reason: str = "", who: str = "") -> None:
    db.execute(
        "INSERT INTO instance_events (instance, at, kind, state, reason, who) VALUES (?, ?, ?, ?, ?, ?)",
        (instance, at, kind, state, reason, who),
    )


def delete(db: Db, instance: str) -> None:
    """The record and its timeline, runs and configuration."""
    for table in ("instance_events", "instance_runs"):
        db.execute(f"DELETE FROM {table} WHERE instance = ?", (instance,))
    db.execute("DELETE FROM config_versions WHERE scope = ?", (instance,))
    db.execute("DELETE FROM instances WHERE id = ?", (instance,))


def events(db: Db, instance: str, limit: int) -> list[dict[str, Any]]:
    """Newest first."""
    sql = "SELECT at, kind, state, reason, who FROM instance_events WHERE instance = ? ORDER BY number DESC LIMIT ?"
    return rows(db, sql, (instance, limit))


def trim_events(db: Db, keep: int) -> None:
    """Keep the newest `keep` events and runs of each instance."""
    for table, key in (("instance_events", "number"), ("instance_runs", "id")):
        db.execute(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM (SELECT {key}, row_number() OVER"
            f" (PARTITION BY instance ORDER BY {key} DESC) AS n FROM {table}) WHERE n > ?)",
            (keep,),
        )


RUNS = Listing(
    select="SELECT * FROM instance_runs",
    key="id",
    sorts={"id": "id", "started_at": "started_at"},
    filters={"instance": "instance"},
    default_sort="-id",
)


def runs_page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, RUNS, asked)
