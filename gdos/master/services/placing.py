"""The nodes as placement sees them, from the database and the newest samples. The rules: gdos/model/placement.py."""

from __future__ import annotations

import json

import msgspec

from gdos.master.services.context import Context
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as node_table
from gdos.master.store.db import Db
from gdos.master.store.reader import Row
from gdos.model import placement
from gdos.model.errors import Conflict
from gdos.model.manifest import Manifest
from gdos.model.placement import Candidate, Placement, Reason

AUTO = "auto"


def candidates(db: Db, ctx: Context, module: str, node: str | None = None) -> list[Candidate]:
    """Every node, or one, with what is placed on it, for one module."""
    found = {r["id"]: _candidate(ctx, r) for r in node_table.placed(db) if node in (None, r["id"])}
    for r in instance_table.placed(db, node):
        here = found[r["node"]]
        here.same_module += r["module"] == module
        for port in json.loads(r["ports"]).values():
            here.ports[port] = f"{r['system_name']}/{r['name']}"
    return list(found.values())


def _candidate(ctx: Context, r: Row) -> Candidate:
    metrics = (ctx.live.node_metrics(r["id"]) if r["state"] == "online" else None) or {}
    facts = json.loads(r["facts"])
    total, used = metrics.get("memory_total"), metrics.get("memory_used")
    cpu = facts.get("cpu") if isinstance(facts.get("cpu"), dict) else {}
    cores = cpu.get("cores") if isinstance(cpu, dict) else None
    return Candidate(
        id=r["id"],
        name=r["name"],
        state=r["state"],
        os=r["os"],
        arch=r["arch"],
        labels=json.loads(r["labels"]),
        allow=json.loads(r["allow"]),
        instances=r["instances"],
        free_memory=int(total - used) if total is not None and used is not None else None,
        cpu=metrics.get("cpu"),
        cores=cores if isinstance(cores, int) else None,
    )


def objection(node: Candidate, manifest: Manifest, wish: Placement | None = None) -> str:
    """Why a node that a person named cannot take an instance, or ''."""
    return placement.objection(node, manifest, wish or Placement(), is_named=True)


def wish_of(module: Row) -> Placement:
    """A module's own wishes; they were checked when they came in."""
    return msgspec.json.decode(module["placement"], type=Placement)


def choose(
    found: list[Candidate], manifest: Manifest, wish: Placement, named: str | None
) -> tuple[Candidate, list[Reason]]:
    """The node for one more instance, and why. Raises Conflict that says of every node why it was not chosen.

    `named`: a person named this node; labels and resources are not asked then, ports and the OS are.
    """
    best, reasons = placement.choose(found, manifest, Placement() if named else wish, is_named=named is not None)
    if best is None:
        said = "; ".join(r.text for r in reasons) or "there is no node yet"
        raise Conflict(said if named else f"no node can take {manifest.name}: {said}")
    return best, reasons
