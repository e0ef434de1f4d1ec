"""Rows of systems and their modules."""

from __future__ import annotations

from gdos.master.store.db import Db, Listing, Page, listing, row, rows
from gdos.master.store.reader import Row

LIST = Listing(
    select="SELECT s.*, (SELECT count(*) FROM modules m WHERE m.system = s.id) AS modules,"
    " (SELECT count(*) FROM instances i WHERE i.system = s.id) AS instances FROM systems s",
    key="id",
    sorts={"name": "name", "created_at": "created_at"},
    filters={"name": "name"},
    search=("name", "description"),
    default_sort="name",
)
_MODULE = (
    "SELECT m.*, s.name AS system_name, (SELECT count(*) FROM instances i WHERE i.module = m.id) AS instances,"
    " (SELECT entries FROM config_versions c WHERE c.scope = m.id ORDER BY number DESC LIMIT 1) AS entries"
    " FROM modules m JOIN systems s ON s.id = m.system"
)
MODULES = Listing(
    select=_MODULE,
    key="id",
    sorts={"name": "name", "created_at": "created_at"},
    filters={"name": "name", "system": "system", "package": "package"},
    search=("name", "package"),
    default_sort="name",
)


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, LIST, asked)


def get(db: Db, id_or_name: str) -> Row | None:
    sql = f"SELECT * FROM ({LIST.select}) WHERE id = :x OR name = :x ORDER BY id = :x DESC"
    return row(db, sql, {"x": id_or_name})


def module_page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, MODULES, asked)


def module(db: Db, system: str | None, id_or_name: str) -> Row | None:
    """A module by its id, or by its name within a system."""
    sql = f"SELECT * FROM ({_MODULE}) WHERE id = :x OR (name = :x AND system = :system) ORDER BY id = :x DESC"
    return row(db, sql, {"x": id_or_name, "system": system})


def modules_of(db: Db, system: str) -> list[Row]:
    return rows(db, f"SELECT * FROM ({_MODULE}) WHERE system = ? ORDER BY name", (system,))
