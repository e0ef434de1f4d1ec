"""Rows of users, sessions, tokens and the audit trail."""

from __future__ import annotations

import hashlib

from gdos.master.store.db import Db, Listing, Page, dumps, insert, listing, row, rows
from gdos.master.store.reader import Row

JOIN_TOKENS = Listing(
    select="SELECT id, name, uses_left, created_by, created_at, expires_at FROM join_tokens",
    key="id",
    sorts={"created_at": "created_at", "name": "name"},
    filters={"name": "name"},
    search=("name",),
    default_sort="-created_at",
)
TOKENS = Listing(
    select="SELECT id, name, role, created_by, created_at, used_at, expires_at FROM tokens",
    key="id",
    sorts={"created_at": "created_at", "name": "name"},
    filters={"name": "name", "role": "role"},
    search=("name",),
    default_sort="-created_at",
)
AUDIT = Listing(
    select="SELECT * FROM audit",
    key="number",
    sorts={"number": "number"},
    filters={"who": "who", "action": "action", "object": "object", "result": "result"},
    search=("who", "action", "object", "detail"),
    default_sort="-number",
)


def join_token_page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, JOIN_TOKENS, asked)


def token_page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, TOKENS, asked)


def audit_page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, AUDIT, asked)


def user(db: Db, name: str) -> Row | None:
    return row(db, "SELECT * FROM users WHERE name = ?", (name,))


def has_users(db: Db) -> bool:
    return row(db, "SELECT 1 FROM users LIMIT 1") is not None


def session(db: Db, secret: str) -> Row | None:
    sql = "SELECT s.*, u.role FROM sessions s JOIN users u ON u.name = s.user WHERE s.secret = ?"
    return row(db, sql, (secret,))


def token(db: Db, secret: str) -> Row | None:
    return row(db, "SELECT * FROM tokens WHERE secret = ?", (secret,))


def join_token(db: Db, secret: str) -> Row | None:
    return row(db, "SELECT * FROM join_tokens WHERE secret = ?", (secret,))


def use_join_token(db: Db, id_: str) -> None:
    db.execute("UPDATE join_tokens SET uses_left = uses_left - 1 WHERE id = ? AND uses_left IS NOT NULL", (id_,))


def delete(db: Db, table: str, column: str, value: str) -> int:
    """Remove rows; the names are the program's own."""
    return db.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,)).rowcount


def forget_expired(db: Db, now: int) -> None:
    db.execute("DELETE FROM sessions WHERE expires_at < ?", (now,))
    db.execute("DELETE FROM login_failures WHERE until < ?", (now - 86_400_000,))
    db.execute("DELETE FROM idempotency WHERE at < ?", (now - 86_400_000,))


def failure(db: Db, who: str) -> Row | None:
    return row(db, "SELECT * FROM login_failures WHERE who = ?", (who,))


def set_failure(db: Db, who: str, count: int, until: int) -> None:
    db.execute(
        "INSERT INTO login_failures VALUES (:who, :count, :until)"
        " ON CONFLICT (who) DO UPDATE SET count = :count, until = :until",
        {"who": who, "count": count, "until": until},
    )


def add_audit(db: Db, entry: dict[str, object]) -> None:
    """Append to the trail; each row's chain value covers the one before, so that a change in the past shows."""
    last = row(db, "SELECT chain FROM audit ORDER BY number DESC LIMIT 1")
    insert(db, "audit", {**entry, "chain": chain_value(last["chain"] if last else "", entry)})


def chain_value(previous: str, entry: dict[str, object]) -> str:
    """SHA-256 over the previous value and a row's own fields."""
    text = dumps([previous, *(entry[k] for k in ("at", "who", "address", "action", "object", "detail", "result"))])
    return hashlib.sha256(text.encode()).hexdigest()


def broken_audit_row(db: Db) -> int | None:
    """The number of the first row whose chain value is wrong, or None."""
    previous = ""
    for entry in rows(db, "SELECT * FROM audit ORDER BY number"):
        if chain_value(previous, entry) != entry["chain"]:
            return int(entry["number"])
        previous = entry["chain"]
    return None


def remembered(db: Db, key: str) -> Row | None:
    return row(db, "SELECT * FROM idempotency WHERE key = ?", (key,))
