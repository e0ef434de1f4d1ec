"""Nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gdos.master.api import border
from gdos.master.api import shapes as s
from gdos.master.api.router import ADMIN, OPERATOR, VIEWER, Call, Router, listed, page_of
from gdos.master.services import nodes

api = Router()


class NodeQuery(s.ListQuery):
    state: Literal["online", "offline", "planned"] | None = None
    os: str | None = None
    name: str | None = None
    hostname: str | None = None


class SeriesQuery(Struct):
    """The last `range` seconds, one value each `step` seconds (0: as fine as there is)."""

    range: Annotated[int, Meta(ge=1, le=604_800, extra={"unit": "seconds"})] = 600
    step: Annotated[int, Meta(ge=0, le=3600, extra={"unit": "seconds"})] = 0


@api.add("GET", "/nodes", VIEWER, query=NodeQuery, returns=s.Listed[s.Node])
def list_nodes(call: Call) -> object:
    """All nodes."""
    return listed(nodes.page(call.ctx, page_of(call)))


@api.add("GET", "/nodes/{id}", VIEWER, returns=s.Node)
def get_node(call: Call) -> object:
    """One node, by id or name."""
    return nodes.get(call.ctx, call.args["id"])


@api.add("PATCH", "/nodes/{id}", OPERATOR, body=s.NodeChange, returns=s.Node)
def change_node(call: Call) -> object:
    """Rename a node or replace its labels."""
    border.check_match(call, nodes.get(call.ctx, call.args["id"]))
    return nodes.change(call.ctx, call.who, call.args["id"], call.body.name, call.body.labels)


class RemoveQuery(Struct):
    """`force`: with the records of its instances, for a node that is offline for good."""

    force: bool = False


@api.add("DELETE", "/nodes/{id}", ADMIN, query=RemoveQuery)
def remove_node(call: Call) -> None:
    """Forget a node and revoke its credential; with instances only by `force`, and only while it is offline."""
    nodes.remove(call.ctx, call.who, call.args["id"], is_forced=call.query.force)


@api.add("GET", "/nodes/{id}/metrics", VIEWER, query=SeriesQuery, returns=s.Series)
def node_metrics(call: Call) -> object:
    """A node's metrics over time; gaps are null."""
    found = nodes.get(call.ctx, call.args["id"])
    return call.backend.series("node", found["id"], call.query.range, call.query.step)
