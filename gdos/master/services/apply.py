"""A system as its file says: the exact difference, and one task that makes it so. All in one transaction, so that a
plan is the same transaction with nothing of it kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gdos.master.services import adoptions, changes, instances, orders, placing, systems, tasks, values, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import instances as instance_table
from gdos.master.store import systems as table
from gdos.master.store import values as value_table
from gdos.master.store.db import Db, insert, update
from gdos.master.store.reader import Row
from gdos.model import rollout, systemfile
from gdos.model.errors import BadInput, Conflict, Problem
from gdos.model.flow import Need
from gdos.model.rollout import Strategy
from gdos.model.systemfile import Kept, ModuleFile, SystemFile


@dataclass(frozen=True, slots=True)
class Wish:
    """`prune`: what the file does not name is destroyed and removed."""

    file: SystemFile
    prune: bool = False


@dataclass(slots=True)
class _Work:
    """What one application has found and planned so far. `numbers`: the steps of each module by its name."""

    db: Db
    ctx: Context
    who: Who
    changes: list[views.View] = field(default_factory=list)
    plan: orders.Rollouts = field(default_factory=orders.Rollouts)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, path: str, kind: str, before: Any = None, after: Any = None) -> None:
        self.changes.append({"path": path, "kind": kind, "before": before, "after": after})


def apply(ctx: Context, who: Who, wish: Wish, *, is_dry: bool) -> views.View:
    """{changes, task}; the task is null when there is nothing to do. Raises BadInput, Conflict: nothing is kept."""
    systemfile.check(wish.file)
    touched: list[tasks.Touched] = []

    def write(db: Db) -> views.View:
        touched.clear()
        work = _Work(db, ctx, who)
        owner = _system(work, wish.file)
        for wave in systemfile.waves(wish.file):
            for name in wave:
                _module(work, owner, name, wish.file.modules[name])
        _others(work, owner, wish)
        return {"changes": work.changes, "task": _task(work, owner, touched), "system": owner["name"]}

    done = instances.rehearse(ctx, write) if is_dry else ctx.store.write(write)
    if not is_dry:
        for one in touched:
            tasks.tell(ctx, one)
        ctx.changed("system", done["system"])
        _wake(ctx, done)
    elif done["task"]:
        done["task"] = {**done["task"], "id": "", "state": "queued"}
    return done


def _wake(ctx: Context, done: views.View) -> None:
    """What only waits for its next start has new values too: its node must know them by then."""
    db = ctx.store.read()
    if done["changes"]:
        for node in {r["node"] for r in instance_table.of_system(db, systems.find(db, done["system"])["id"])}:
            ctx.wake(node)


def _task(work: _Work, owner: Row, touched: list[tasks.Touched]) -> views.View | None:
    if work.changes:
        said = [f"{c['kind']} {c['path']}" for c in work.changes]
        audit(work.db, work.ctx, work.who, "system.apply", owner["id"], {"changes": said[:200]})
    steps, plan = work.plan.steps, work.plan
    if not steps:
        return None
    strategy = plan.strategy(None) if any(s.action == "upgrade" for s in steps) else None
    order = tasks.Order("apply", owner["name"], steps, strategy, "\n".join(work.notes), tuple(plan.moved))
    task, one = tasks.create(work.db, work.ctx, work.who, order)
    touched.append(one)
    for step in steps:
        one.nodes.add(step.instance["node"])
    return tasks.view(work.db, task)


def _system(work: _Work, file: SystemFile) -> Row:
    db = work.db
    if table.get(db, file.system) is None:
        values_ = {"id": new_id("s"), "name": file.system, "description": file.description}
        insert(db, "systems", {**values_, "created_at": work.ctx.now()})
        work.note(f"system {file.system}", "added")
    owner = systems.find(db, file.system)
    if owner["description"] != file.description:
        update(db, "systems", {"id": owner["id"]}, {"description": file.description})
        work.note("description", "changed", owner["description"], file.description)
    _values(work, values.scope_of_system(owner), "", file.values, file.secrets)
    return systems.find(db, file.system)


def _values(
    work: _Work,
    scope: values.Scope,
    at: str,
    wish: Mapping[str, str],
    secrets: Mapping[str, str | Kept],
) -> None:
    """The values of a scope are what the file says, no more and no less."""
    before = values.entries(work.db, scope.id)
    new = {name: text for name, text in secrets.items() if isinstance(text, str)}
    for name, text in secrets.items():
        if isinstance(text, Kept) and "s" not in before.get(name, {}):
            said = "there is no such secret to keep; give its text"
            raise BadInput(f"{at}secrets.{name}: {said}", [Problem(f"{at}secrets.{name}", said)])
    gone = [name for name in before if name not in wish and name not in secrets]
    values.write(work.db, work.ctx, work.who, scope, values.Change(wish, new, gone, note="apply"))
    for c in values.changes(before, values.entries(work.db, scope.id)):
        kind = "secrets" if c["is_secret"] else "values"
        work.note(f"{at}{kind}.{c['name']}", c["kind"], c["before"], c["after"])


def _module(work: _Work, owner: Row, name: str, wish: ModuleFile) -> None:
    db, at = work.db, f"modules.{name}"
    before = table.module(db, owner["id"], name)
    if before is not None and bool(before["external"]) != (wish.external is not None):
        raise Conflict(f"{at}: adopted and packaged services do not change into each other; destroy the module first")
    package, version = systemfile.split_package(wish.package) if wish.package else ("", "")
    if before is not None and before["package"] != package:
        said = (
            f"{at}: it runs the package {before['package']}, not {package}: destroy it first, or give it another name"
        )
        raise Conflict(said)
    external = systemfile.external_of(name, wish.external) if wish.external is not None else None
    planned = _planned(wish)
    if before is None:
        more = {"package": package, "version": version, "count": max(wish.count, 1)}
        if external is not None:
            more["external"] = msgspec.json.encode(external).decode()
        module = systems.add_module(db, work.ctx, work.who, owner, {"name": name, **more, **planned})
        work.note(at, "added", None, wish.package or "external")
    else:
        module = _alter(work, at, before, {"count": max(wish.count, 1), **planned})
    _values(work, values.scope_of_module(module), f"{at}.", wish.values, wish.secrets)
    work.numbers[name] = []
    if external is not None:
        made = adoptions.keep(db, work.ctx, work.who, module, external, wish.nodes)
        for row, kind in made:
            work.note(f"{at}.{row['name']}", kind, None, row["node_name"])
            action = "destroy" if kind == "removed" else adoptions.action_for(external, runs=wish.run)
            _plan(work, name, action, [row], _gates(work, wish))
        return
    _scale(work, name, module, wish, version)


def _planned(wish: ModuleFile) -> dict[str, Any]:
    placement = wish.placement
    if wish.nodes and wish.external is None:
        placement = msgspec.structs.replace(placement, nodes=wish.nodes)
    depends = [msgspec.to_builtins(d) for d in systemfile.depends_of(wish)]
    return {
        "depends_on": depends,
        "placement": msgspec.to_builtins(placement),
        "strategy": msgspec.to_builtins(wish.strategy),
    }


def _alter(work: _Work, at: str, before: Row, wish: dict[str, Any]) -> Row:
    now = {"count": before["count"], **{k: json.loads(before[k]) for k in ("depends_on", "placement", "strategy")}}
    different = {k: v for k, v in wish.items() if v != now[k]}
    for key, value in different.items():
        work.note(f"{at}.{key}", "changed", now[key], value)
    return systems.alter_module(work.db, work.ctx, work.who, before, different) if different else before


def _gates(work: _Work, wish: ModuleFile) -> tuple[Need, ...]:
    """All steps of the modules that this one depends on, each through its gate."""
    needs = []
    for d in systemfile.depends_of(wish):
        needs += [Need(number, d.gate, d.target, d.timeout) for number in work.numbers.get(d.module, [])]
    return tuple(needs)


def _plan(work: _Work, name: str, action: str, rows: list[Row], needs: tuple[Need, ...], value: str = "") -> None:
    for row in rows:
        work.numbers[name].append(len(work.plan.steps))
        work.plan.steps.append(tasks.Planned(action, row, needs, value, name))


def _scale(work: _Work, name: str, module: Row, wish: ModuleFile, version: str) -> None:
    """As many instances as asked for, of the version asked for, with the configuration that holds now."""
    db, at = work.db, f"modules.{name}"
    present = instance_table.of_module(db, module["id"])
    surplus = sorted(present, key=lambda r: (r["created_at"], r["name"]))[wish.count :]
    keep = [r for r in present if r not in surplus]
    gates = _gates(work, wish)
    if version != module["version"]:
        work.note(f"{at}.version", "changed", module["version"], version)
        first = len(work.plan.steps)
        work.plan.add(db, module, keep, version, None, [n.step for n in gates])
        work.numbers[name] += range(first, len(work.plan.steps))
    else:
        _bring_up_to_date(work, name, module, keep, gates)
    idle = [r for r in keep if bool(r["run"]) != wish.run]
    if idle:
        action = "start" if wish.run else "stop"
        work.note(f"{at}.run", "changed", not wish.run, wish.run)
        _plan(work, name, action, idle, gates)
    missing = wish.count - len(present)
    if missing > 0:
        fresh = systems.find_module(db, module["system"], module["id"])
        asked = instances.Deploy(module["system"], module["id"], placing.AUTO, missing, wish.run)
        made, reasons = instances.place(db, work.ctx, work.who, fresh, asked)
        work.notes.append(instances.placement_note(reasons))
        for row in made:
            work.note(f"{at}.{row['name']}", "added", None, row["node_name"])
        _plan(work, name, "deploy" if wish.run else "bring", made, gates)
    for row in surplus:
        work.note(f"{at}.{row['name']}", "removed", row["node_name"], None)
    _plan(work, name, "destroy", surplus, ())


def _bring_up_to_date(work: _Work, name: str, module: Row, rows: list[Row], gates: tuple[Need, ...]) -> None:
    """What runs with an older configuration is restarted, in batches as an upgrade is."""
    fresh = {r["id"]: r for r in instance_table.of_module(work.db, module["id"])}
    stale = [
        fresh[r["id"]]
        for r in rows
        if r["run"] and r["kind"] == "service" and r["reported_config"] not in ("", fresh[r["id"]]["config"])
    ]
    if not stale:
        return
    work.note(f"modules.{name}", "restart", None, ", ".join(r["name"] for r in stale))
    strategy = msgspec.json.decode(module["strategy"], type=Strategy)
    first = len(work.plan.steps)
    for p in rollout.plan(len(stale), strategy, "restart", [n.step for n in gates], first):
        work.numbers[name].append(len(work.plan.steps))
        work.plan.steps.append(tasks.Planned(p.action, stale[p.instance], p.needs, "", p.phase, p.hold_ms))


def _others(work: _Work, owner: Row, wish: Wish) -> None:
    """Modules that the file does not name."""
    for module in reversed([m for wave in orders.module_waves(table.modules_of(work.db, owner["id"])) for m in wave]):
        if module["name"] in wish.file.modules:
            continue
        at = f"modules.{module['name']}"
        if not wish.prune:
            work.notes.append(f"{at} is not in the file and stays; --prune would remove it")
            continue
        rows = instance_table.of_module(work.db, module["id"])
        if not rows and not module["instances"]:
            systems.drop_module(work.db, work.ctx, work.who, module)
            work.note(at, "removed")
            continue
        work.note(at, "removed", f"{len(rows)} instances", "none; apply again to remove the module itself")
        work.numbers[module["name"]] = []
        _plan(work, module["name"], "destroy", rows, ())


# --- the other way


def export(ctx: Context, system: str) -> views.View:
    """A system as its file; secrets are not in it, they are marked to be kept."""
    db = ctx.store.read()
    owner = systems.find(db, system)
    modules = table.modules_of(db, owner["id"])
    newest = value_table.latest(db, [owner["id"], *(m["id"] for m in modules)])
    file: dict[str, Any] = {"system": owner["name"]}
    if owner["description"]:
        file["description"] = owner["description"]
    file |= _exported_values(newest.get(owner["id"]))
    file["modules"] = {m["name"]: _exported(db, m, newest.get(m["id"])) for m in modules}
    return file


def _exported(db: Db, m: Row, entries: Row | None) -> views.View:
    rows = instance_table.of_module(db, m["id"])
    out: dict[str, Any] = {}
    placement = json.loads(m["placement"])
    if m["external"]:
        external = msgspec.to_builtins(changes.external_of(m))
        out["external"] = {k: v for k, v in external.items() if k not in ("name", "version", "is_external")}
        out["nodes"] = sorted(r["node_name"] for r in rows)
    else:
        out |= {"package": f"{m['package']}:{m['version']}", "count": len(rows) or m["count"]}
        if placement.get("nodes"):
            out["nodes"] = placement.pop("nodes")
        if rows and not any(r["run"] for r in rows):
            out["run"] = False
    depends = json.loads(m["depends_on"])
    more = {"placement": placement, "strategy": json.loads(m["strategy"])}
    if depends:
        out["depends_on"] = [d["module"] if len(d) == 1 else d for d in depends]
    return {**out, **_exported_values(entries), **{k: v for k, v in more.items() if v}}


def _exported_values(row: Row | None) -> dict[str, Any]:
    entries = json.loads(row["entries"]) if row is not None else {}
    plain = {name: e["v"] for name, e in entries.items() if "v" in e}
    secret = {name: {"keep": True} for name, e in entries.items() if "s" in e}
    return {**({"values": plain} if plain else {}), **({"secrets": secret} if secret else {})}
