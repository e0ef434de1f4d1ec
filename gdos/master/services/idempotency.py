"""Answers by Idempotency-Key: a request that is sent again after a cut does not do its work twice."""

from __future__ import annotations

from dataclasses import dataclass

from gdos.master.services.context import Context
from gdos.master.store import access as table
from gdos.master.store.db import insert
from gdos.model.errors import Conflict


@dataclass(frozen=True, slots=True)
class Remembered:
    status: int
    answer: str


def recall(ctx: Context, key: str, body: str) -> Remembered | None:
    """The answer of an earlier request. Raises Conflict when that one had another body."""
    found = table.remembered(ctx.store.read(), key)
    if found is None:
        return None
    if found["body"] != body:
        raise Conflict("this Idempotency-Key was used with another body")
    return Remembered(found["status"], found["answer"])


def remember(ctx: Context, key: str, body: str, status: int, answer: str) -> None:
    """Keep an answer for a day."""
    values = {"key": key, "body": body, "status": status, "answer": answer, "at": ctx.now()}
    ctx.store.write(lambda db: insert(db, "idempotency", values))
