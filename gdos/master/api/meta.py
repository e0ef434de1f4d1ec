"""Health, metrics, the API's own description, and the console's files."""

from __future__ import annotations

import html
import mimetypes
from typing import Any

from gdos import __version__
from gdos.console import asset
from gdos.master.api import openapi
from gdos.master.api.router import OPEN, VIEWER, Answer, Call, Route, Router
from gdos.model.errors import NotFound

root = Router(prefix="")
api = Router()


@root.add("GET", "/healthz", OPEN)
def healthz(call: Call) -> Answer:
    """The process is alive."""
    return Answer({"status": "ok", "version": __version__})


@root.add("GET", "/readyz", OPEN)
def readyz(call: Call) -> Answer:
    """It can serve: the database answers, and writes reach the disk."""
    health = call.backend.health()
    return Answer(health, 200 if health["status"] == "ready" else 503)


@root.add("GET", "/metrics", VIEWER, media="text/plain")
def metrics(call: Call) -> Answer:
    """Prometheus exposition of the master, its nodes and their instances."""
    text = call.backend.exposition()
    return Answer(headers=[("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], raw=text)


def describe(routes: list[Route]) -> Router:
    """The routes that show all routes, themselves too."""
    router = Router(prefix="")
    document: list[dict[str, Any]] = []

    def page() -> dict[str, Any]:
        if not document:
            document.append(openapi.describe([*routes, *router.routes]))
        return document[0]

    @router.add("GET", "/api/v1/openapi.json", VIEWER)
    def openapi_json(call: Call) -> Answer:
        """This description, as OpenAPI 3.1."""
        return Answer(page())

    @router.add("GET", "/api/docs", VIEWER, media="text/html")
    def docs(call: Call) -> Answer:
        """This description, to read."""
        return Answer(headers=[("Content-Type", "text/html; charset=utf-8")], raw=_readable(page()).encode())

    return router


def _readable(document: dict[str, Any]) -> str:
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            cells = (method.upper(), path, operation["x-access"], operation["summary"])
            rows.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>GDOS API</title>'
        '<link rel="stylesheet" href="../assets/console.css"><main class="docs">'
        f"<h1>GDOS API {__version__}</h1><p>{html.escape(document['info']['description'])}</p>"
        '<p><a href="v1/openapi.json">openapi.json</a></p><table><tr><th>method<th>path<th>who<th>what</tr>'
        + "".join(rows)
        + "</table></main></html>"
    )


console = Router(prefix="")


@console.add("GET", "/", OPEN, media="text/html")
def index(call: Call) -> Answer:
    """The console."""
    return _file(call, "index.html")


@console.add("GET", "/assets/{name}", OPEN, media="application/octet-stream")
def assets(call: Call) -> Answer:
    """A file of the console."""
    return _file(call, f"assets/{call.args['name']}")


def _file(call: Call, name: str) -> Answer:
    found = asset(name)
    if found is None:
        raise NotFound(f"the console has no file {name}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    charset = "; charset=utf-8" if kind.startswith("text/") or kind.endswith("javascript") else ""
    headers = [("Content-Type", kind + charset), ("ETag", found.tag), ("Cache-Control", "no-cache")]
    if found.tag in call.headers.get("if-none-match", ""):
        return Answer(status=304, headers=headers, raw=b"")
    return Answer(headers=headers, raw=found.data)
