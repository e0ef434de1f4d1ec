"""What every use case gets: the store, the clock, who asks, and whom to tell of a change."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Protocol

from gdos.master.blobs.base import Blobs
from gdos.master.services.vault import Vault
from gdos.master.store import access
from gdos.master.store.db import Db, Store, dumps
from gdos.model.errors import Unavailable
from gdos.model.values import WallClock
from gdos.wire.messages import Request


class Role(IntEnum):
    """Ordered: each may do what the one before may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a person or program with a role, or a node (`node` set, no role)."""

    name: str
    role: Role | None = None
    address: str = ""
    node: str = ""
    is_cookie: bool = False
    secret: str = ""  # the hash of the session, for signing out


class Live(Protocol):
    """What is in memory only."""

    def node_metrics(self, node: str) -> dict[str, float] | None: ...
    def instance_metrics(self, instance: str) -> dict[str, float] | None: ...
    def last_seen(self, node: str) -> int | None: ...


class Nothing:
    """No live values: at the start, and in tests."""

    def node_metrics(self, node: str) -> None:
        return None

    def instance_metrics(self, instance: str) -> None:
        return None

    def last_seen(self, node: str) -> None:
        return None


def _nobody(node: str, request: Request, timeout_s: float) -> Any:
    raise Unavailable("the master is starting")


@dataclass(slots=True)
class Context:
    """`wake(node)`: what is wanted there has changed. `changed(kind, id)`: tell those who look.

    `removed(node)`: its link ends.
    """

    store: Store
    blobs: Blobs
    vault: Vault
    now: WallClock
    wake: Callable[[str], None] = lambda node: None
    changed: Callable[[str, str], None] = lambda kind, id_: None
    removed: Callable[[str], None] = lambda node: None
    live: Live = field(default_factory=Nothing)
    ask: Callable[[str, Request, float], Any] = _nobody  # a node's answer; waits
    upload_max: int = 16 << 30
    keep_tasks: int = 2000
    keep_events: int = 200


def audit(db: Db, ctx: Context, who: Who, action: str, target: str, detail: object = "", result: str = "ok") -> None:
    """One line of the trail, in the transaction of the change itself."""
    text = detail if isinstance(detail, str) else dumps(detail)
    access.add_audit(
        db,
        {
            "at": ctx.now(),
            "who": who.name,
            "address": who.address,
            "action": action,
            "object": target,
            "detail": text,
            "result": result,
        },
    )


def new_id(kind: str) -> str:
    """A random id that says what it is of: 'i-3f9c2a7d10b4'."""
    return f"{kind}-{secrets.token_hex(6)}"


def rfc3339(at: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339 UTC with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
