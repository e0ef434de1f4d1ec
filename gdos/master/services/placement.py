"""Which node gets an instance: what rules a node out, said in words, and which of the others is best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from gdos.master.services.context import Context
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as node_table
from gdos.master.store.db import Db
from gdos.master.store.reader import Row
from gdos.model.errors import Conflict
from gdos.model.manifest import Manifest

DEPLOY = "deploy"
AUTO = "auto"


@dataclass(slots=True)
class Candidate:
    row: Row
    ports: dict[int, str] = field(default_factory=dict)  # claimed port -> by whom
    same_module: int = 0
    instances: int = 0


def candidates(db: Db, module: str, node: str | None = None) -> list[Candidate]:
    """Every node, or one, with what is placed on it, for one module."""
    rows = [r for r in node_table.placed(db) if node in (None, r["id"])]
    found = {r["id"]: Candidate(r, instances=r["instances"]) for r in rows}
    for r in instance_table.placed(db, node):
        here = found[r["node"]]
        here.same_module += r["module"] == module
        for port in json.loads(r["ports"]).values():
            here.ports[port] = f"{r['system_name']}/{r['name']}"
    return list(found.values())


def objection(node: Candidate, manifest: Manifest, ports: Mapping[str, int]) -> str:
    """Why an instance cannot be placed there, or ''."""
    name = node.row["name"]
    if manifest.os and node.row["os"] and manifest.os != node.row["os"]:
        return f"{name} runs {node.row['os']}, {manifest.name} {manifest.version} is for {manifest.os}"
    allow = json.loads(node.row["allow"])
    if allow and DEPLOY not in allow:
        return f"the worker on {name} does not allow deploy (--allow {','.join(allow)})"
    for label, port in ports.items():
        if port in node.ports:
            return f"port {port} ({label}) on {name} is claimed by {node.ports[port]}"
    return ""


def choose(ctx: Context, found: list[Candidate], manifest: Manifest, ports: Mapping[str, int]) -> Candidate:
    """The best node: fewest of the same module, then most free memory, then fewest instances.

    Raises Conflict that says of every node why it was not chosen.
    """
    reasons = []
    fit = []
    for node in found:
        online = node.row["state"] == "online"
        reason = objection(node, manifest, ports) if online else f"{node.row['name']} is {node.row['state']}"
        if reason:
            reasons.append(reason)
        else:
            fit.append(node)
    if not fit:
        raise Conflict(f"no node can take {manifest.name}: {'; '.join(reasons) or 'there is no node yet'}")
    return min(fit, key=lambda c: (c.same_module, _memory_tenth(ctx, c), c.instances, c.row["name"]))


def _memory_tenth(ctx: Context, node: Candidate) -> int:
    """Memory in use in tenths: small differences must not decide."""
    metrics = ctx.live.node_metrics(node.row["id"]) or {}
    return int(metrics.get("memory", 0.5) * 10)


def take(node: Candidate, name: str, ports: Mapping[str, int]) -> None:
    """Count an instance that was just placed, so that the next of the same deploy sees it."""
    node.same_module += 1
    node.instances += 1
    for port in ports.values():
        node.ports[port] = name
