"""Typed routes: each says who may call it, what it takes and what it answers; the OpenAPI page is made from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from gdos.master.services.context import Context, Role, Who
from gdos.master.store.db import Page
from gdos.wire.messages import Request

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: anyone (`role` None and not `node`), a role or higher, a worker with its credential."""

    role: Role | None = None
    node: bool = False
    is_open: bool = False


OPEN = Access(is_open=True)
JOINER = Access(is_open=True)  # the join token in the header is checked by the use case
VIEWER = Access(Role.VIEWER)
OPERATOR = Access(Role.OPERATOR)
ADMIN = Access(Role.ADMIN)
VIEWER_OR_NODE = Access(Role.VIEWER, node=True)


@dataclass(frozen=True, slots=True)
class Backend:
    """What handlers may use beside the use cases: asking a node (waits), metric series, the master's own state."""

    ctx: Context
    ask: Callable[[str, Request, float], Any]
    series: Callable[[str, str, int, int], dict[str, Any]]
    health: Callable[[], dict[str, Any]]
    exposition: Callable[[], bytes]
    secure_cookies: bool = False
    base_path: str = ""


@dataclass(slots=True)
class Call:
    """One request, parsed and permitted."""

    backend: Backend
    who: Who
    args: dict[str, str]
    body: Any = None
    query: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    read: Callable[[int], bytes] = lambda count: b""
    content_length: int | None = None
    files: Callable[[], Any] = lambda: None

    @property
    def ctx(self) -> Context:
        return self.backend.ctx


@dataclass(slots=True)
class Answer:
    """An answer that is more than JSON with the route's own status."""

    body: Any = None
    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    raw: Any = None  # bytes, or an iterator of bytes


Handler = Callable[[Call], Any]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str  # '/api/v1/nodes/{id}'
    access: Access
    handler: Handler
    body: Any = None
    query: type[msgspec.Struct] | None = None
    returns: Any = None
    status: int = 200
    media: str = "application/json"
    takes: str = "application/json"
    is_secret: bool = False  # its answer must not be kept for an Idempotency-Key

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or self.handler.__name__).strip().splitlines()[0]


class Router:
    """Collects routes; `prefix` stands before each path."""

    def __init__(self, prefix: str = "/api/v1") -> None:
        self.prefix = prefix
        self.routes: list[Route] = []

    def add(self, method: str, path: str, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Decorator: `@api.add("GET", "/nodes", VIEWER, returns=Listed[Node])`."""

        def register(handler: Handler) -> Handler:
            self.routes.append(Route(method, self.prefix + path, access, handler, **more))
            return handler

        return register


def page_of(call: Call) -> Page:
    """The paging and filters of a list request."""
    q = call.query
    names = [n for n in q.__struct_fields__ if n not in ("limit", "cursor", "sort", "q")]
    filters = {n: getattr(q, n) for n in names if getattr(q, n) is not None}
    return Page(q.limit, q.cursor, q.sort, q.q, filters)


def listed(found: tuple[list[Any], str | None]) -> dict[str, Any]:
    """A page as the API shows it."""
    items, cursor = found
    return {"items": items, "next_cursor": cursor}


def values_of(body: msgspec.Struct) -> dict[str, Any]:
    """The fields of a body that were given, as plain data."""
    values: dict[str, Any] = msgspec.to_builtins(body)
    return values
