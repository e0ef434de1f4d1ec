"""The OpenAPI 3.1 description, made from the routes and their types."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gdos import __version__
from gdos.master.api.router import Access, Route
from gdos.master.api.shapes import ProblemBody

_REF = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"


def describe(routes: list[Route]) -> dict[str, Any]:
    """The whole document as plain data."""
    bodies = [r.body for r in routes if r.body is not None]
    answers = [r.returns for r in routes if r.returns is not None]
    kinds = [ProblemBody, *bodies, *answers]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GDOS",
            "version": __version__,
            "description": "Times are RFC 3339 UTC, sizes bytes, ratios 0..1. Errors are problem+json with a stable"
            " `code`. Changes take an `Idempotency-Key`; long operations answer 202 with a task.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "gdos_session"},
            },
        },
    }


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "done"}
    if route.returns is not None:
        good["content"] = {route.media: {"schema": by_kind[_key(route.returns)]}}
    elif route.media != "application/json":
        good["content"] = {route.media: {}}
    problem = {"content": {_PROBLEM: {"schema": by_kind[_key(ProblemBody)]}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.handler.__module__.rsplit('.', 1)[-1]}_{route.handler.__name__}",
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): good,
            "4XX": {"description": "refused; `errors` lists all problems of the input", **problem},
            "5XX": {"description": "failed; `detail` says what to do", **problem},
        },
        "security": [] if route.access.is_open else [{"bearer": []}, {"session": []}],
        "x-access": access_word(route.access),
    }
    if route.body is not None:
        content = {route.takes: {"schema": by_kind[_key(route.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.takes != "application/json":
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {route.takes: binary}}
    return operation


def access_word(access: Access) -> str:
    """Who may call, in a word: 'open', 'viewer', 'viewer or node' ..."""
    words = ["open"] if access.is_open else []
    if access.role is not None:
        words.append(access.role.word)
    if access.node:
        words.append("node")
    return " or ".join(words)


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    return [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)
    own = schema["$defs"][route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": value} for name, value in own.items()]
