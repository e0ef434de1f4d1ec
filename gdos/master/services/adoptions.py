"""Services that run already, brought under care as they are: what there is on a node, a test of the description, the
record. Forgetting the record leaves the process alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gdos.master.services import instances, nodes, systems, tasks, views
from gdos.master.services.context import Context, Who, audit, new_id, rfc3339
from gdos.master.store import instances as table
from gdos.master.store import nodes as node_table
from gdos.master.store import systems as system_table
from gdos.master.store.db import Db, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import Conflict
from gdos.model.manifest import Manifest
from gdos.wire.messages import Candidate, Candidates, Match

ASK_S = 15.0
ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Adopt:
    """`external` describes the service: see docs/adopt.md."""

    system: str
    module: str
    node: str
    external: Manifest


def candidates(ctx: Context, node: str) -> list[views.View]:
    """What runs on a node. Raises NotFound, Unavailable."""
    found = nodes.find(ctx.store.read(), node)
    return [_view(c) for c in msgspec.convert(ctx.ask(found["id"], Candidates(id=0), ASK_S), list[Candidate])]


def test(ctx: Context, node: str, external: Manifest) -> views.View:
    """What a description would adopt on a node, said before anything is saved."""
    found = nodes.find(ctx.store.read(), node)
    matched = msgspec.convert(ctx.ask(found["id"], Match(id=0, external=external), ASK_S), list[Candidate])
    if len(matched) == 1:
        one = matched[0]
        verdict = f"one process fits: {one.name} (PID {one.pid}) of {one.user}"
    elif matched:
        verdict = f"{len(matched)} processes fit and none is the parent of the others: describe it closer"
    else:
        verdict = "nothing that runs now fits"
    return {"count": len(matched), "verdict": verdict, "found": [_view(c) for c in matched]}


def _view(c: Candidate) -> views.View:
    return {**msgspec.to_builtins(c), "started_at": rfc3339(c.started_at)}


def adopt(ctx: Context, who: Who, asked: Adopt) -> views.View:
    """The record; returns the task. Raises Conflict when several processes fit, or the node does not allow it."""
    node = nodes.find(ctx.store.read(), asked.node)
    if node["state"] == "online" and asked.external.pid_strategy != "spawn":
        found = test(ctx, node["id"], asked.external)
        if found["count"] > 1:
            names = ", ".join(f"{c['pid']} ({c['command'][:60]})" for c in found["found"][:10])
            raise Conflict(f"{found['verdict']}: {names}")

    def write(db: Db) -> tuple[str, tasks.Touched]:
        module = _module(db, ctx, who, asked)
        made = keep(db, ctx, who, module, asked.external, [node["name"]], drop=False)
        action = action_for(asked.external)
        steps = [tasks.Planned(action, row) for row, kind in made if kind == "added"]
        if not steps:
            raise Conflict(f"{asked.system}/{asked.module} has adopted that on {node['name']} already")
        target = f"{module['system_name']}/{module['name']}"
        audit(db, ctx, who, "instance.adopt", target, {"node": node["name"], "by": asked.external.pid_strategy})
        return tasks.create(db, ctx, who, tasks.Order("adopt", target, steps))

    return instances.carry_out(ctx, write, is_dry=False)


def _module(db: Db, ctx: Context, who: Who, asked: Adopt) -> Row:
    if system_table.get(db, asked.system) is None:
        insert(db, "systems", {"id": new_id("s"), "name": asked.system, "created_at": ctx.now()})
    owner = systems.find(db, asked.system)
    found = system_table.module(db, owner["id"], asked.module)
    if found is None:
        wish = {"name": asked.module, "package": "", "version": "", "external": encoded(asked.external)}
        return systems.add_module(db, ctx, who, owner, wish)
    if not found["external"]:
        raise Conflict(f"{asked.system}/{asked.module} runs the package {found['package']}: adopt under another name")
    return found


def action_for(external: Manifest, *, runs: bool = True) -> str:
    """What the first step asks for: nobody can start what is only watched."""
    return "watch" if not external.entrypoint else "deploy" if runs else "bring"


def encoded(external: Manifest) -> str:
    return msgspec.json.encode(external).decode()


def keep(
    db: Db, ctx: Context, who: Who, module: Row, external: Manifest, names: Sequence[str], *, drop: bool = True
) -> list[tuple[Row, str]]:
    """One instance of an adopted module on each of these nodes; what changed: (row, added | changed | removed).

    `drop`: those on other nodes are to go. Raises Conflict when a worker does not allow it.
    """
    text = encoded(external)
    update(db, "modules", {"id": module["id"]}, {"external": text})
    there = {r["node_name"]: r for r in table.of_module(db, module["id"])}
    found: list[tuple[Row, str]] = []
    for name in names:
        node = nodes.find(db, name)
        known = there.get(node["name"])
        if known is None:
            _check_allowed(node)
            more: dict[str, Any] = {"package": "", "version": "", "sha256": "", "size": 0, "external": text}
            found.append((instances.add(db, ctx, who, module, node["id"], more), "added"))
        elif known["external"] != text:
            revision = node_table.next_revision(db, node["id"])
            update(db, "instances", {"id": known["id"]}, {"external": text, "revision": revision})
            found.append((known, "changed"))
    gone = [r for node, r in there.items() if node not in names] if drop else []
    return found + [(r, "removed") for r in gone]


def _check_allowed(node: Row) -> None:
    allowed = msgspec.json.decode(node["allow"], type=list[str])
    if allowed and ADOPT not in allowed:
        raise Conflict(f"the worker on {node['name']} does not allow adopt (--allow {','.join(allowed)})")
