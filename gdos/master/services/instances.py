"""Instances: deployed, started, stopped, upgraded, destroyed. All of it is a change of what is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gdos.master.services import nodes, packages, placement, systems, tasks, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import instances as table
from gdos.master.store import nodes as node_table
from gdos.master.store import systems as system_table
from gdos.master.store import tasks as task_table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import BadInput, Conflict, NotFound, Problem
from gdos.model.manifest import Manifest
from gdos.model.wanted import Release, Wanted

ACTIONS = ("start", "stop", "restart", "destroy", "upgrade", "rollback")


@dataclass(frozen=True, slots=True)
class Deploy:
    system: str
    module: str
    node: str = placement.AUTO
    count: int = 1
    run: bool = True
    env: dict[str, str] | None = None


def deploy(ctx: Context, who: Who, asked: Deploy) -> views.View:
    """New instances of a module; returns the task.

    Raises NotFound for system, module or node, Conflict when ports or the OS do not fit.
    """

    def write(db: Db) -> str:
        module = systems.find_module(db, asked.system, asked.module)
        release = systems.need_version(db, module["package"], module["version"])
        manifest = packages.manifest_of(release)
        named = None if asked.node == placement.AUTO else nodes.find(db, asked.node)["id"]
        found = placement.candidates(db, module["id"], named)
        steps = []
        for _ in range(asked.count):
            node = _pick(ctx, found, manifest, named)
            created = _insert(db, ctx, who, module, release, node.row, asked)
            placement.take(node, created["name"], manifest.ports)
            steps.append(tasks.Step(created, "running" if asked.run else "stopped", created["revision"]))
        target = f"{module['system_name']}/{module['name']}"
        detail = {"count": asked.count, "node": asked.node, "version": module["version"]}
        audit(db, ctx, who, "instance.deploy", target, detail)
        return tasks.create(db, ctx, who, "deploy", target, steps)

    return _finish(ctx, ctx.store.write(write))


def _pick(ctx: Context, found: list[placement.Candidate], manifest: Manifest, named: str | None) -> placement.Candidate:
    if named is None:
        return placement.choose(ctx, found, manifest, manifest.ports)
    (node,) = found
    reason = placement.objection(node, manifest, manifest.ports)
    if reason:
        raise Conflict(reason)
    return node


def _insert(db: Db, ctx: Context, who: Who, module: Row, release: Row, node: Row, asked: Deploy) -> Row:
    taken = table.names_in(db, module["system"])
    number = next(n for n in range(1, len(taken) + 2) if f"{module['name']}-{n}" not in taken)
    id_ = new_id("i")
    env = {**json.loads(module["config"]).get("env", {}), **(asked.env or {})}
    values = {
        "id": id_,
        "name": f"{module['name']}-{number}",
        "system": module["system"],
        "module": module["id"],
        "node": node["id"],
        "run": int(asked.run),
        "env": dumps(env),
        "created_at": ctx.now(),
        "revision": node_table.next_revision(db, node["id"]),
        **_release_columns(release),
    }
    insert(db, "instances", values)
    table.add_event(db, id_, ctx.now(), "deploy", "pending", f"version {module['version']}", who.name)
    created = table.get(db, id_)
    assert created is not None
    return created


def _release_columns(release: Row) -> dict[str, Any]:
    ports = packages.manifest_of(release).ports
    values = {"package": release["name"], "version": release["version"], "sha256": release["sha256"]}
    return {**values, "size": release["size"], "ports": dumps(ports)}


def _finish(ctx: Context, task: str) -> views.View:
    """After the commit: wake the nodes, tell those who look, return the task."""
    db = ctx.store.read()
    for step in task_table.steps(db, [task])[task]:
        found = table.get(db, step["instance"])
        if found is not None:
            ctx.wake(found["node"])
            ctx.changed("instance", found["id"])
    ctx.changed("task", task)
    return tasks.get(ctx, task)


# --- actions


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is for: one instance, all of a module, or all of a system."""

    text: str
    instances: list[Row]
    modules: list[Row]


def act(ctx: Context, who: Who, action: str, find: Callable[[Db], Target], version: str | None = None) -> views.View:
    """start, stop, restart, destroy, upgrade (to `version`) or rollback; returns the task."""

    def write(db: Db) -> str:
        target = find(db)
        if action == "upgrade":
            steps = _upgrade(db, ctx, who, target, version or "")
        elif action == "rollback":
            steps = _rollback(db, ctx, who, target)
        else:
            steps = [_run_action(db, ctx, who, action, instance) for instance in target.instances]
        audit(db, ctx, who, f"instance.{action}", target.text, {"version": version} if version else "")
        return tasks.create(db, ctx, who, action, target.text, steps)

    return _finish(ctx, ctx.store.write(write))


def one(id_or_name: str) -> Callable[[Db], Target]:
    """Target: one instance, by id or unique name."""

    def find(db: Db) -> Target:
        row = find_instance(db, id_or_name)
        return Target(f"{row['system_name']}/{row['name']}", [row], [])

    return find


def module_of(system: str, module: str) -> Callable[[Db], Target]:
    """Target: all instances of a module."""

    def find(db: Db) -> Target:
        row = systems.find_module(db, system, module)
        return Target(f"{row['system_name']}/{row['name']}", table.of_module(db, row["id"]), [row])

    return find


def system_of(system: str) -> Callable[[Db], Target]:
    """Target: all instances of a system."""

    def find(db: Db) -> Target:
        row = systems.find(db, system)
        found = table.of_system(db, row["id"])
        return Target(row["name"], found, system_table.modules_of(db, row["id"]))

    return find


def find_instance(db: Db, name: str) -> Row:
    """By id, beginning of an id, name, or 'system/name'. Raises NotFound, or BadInput when several match."""
    system, _, short = name.rpartition("/")
    found = table.named(db, short)
    if system:
        found = [r for r in found if system in (r["system_name"], r["system"])]
    if not found:
        raise NotFound(f"there is no instance {name}; `gdos ps` lists them")
    if len(found) > 1:
        names = ", ".join(f"{r['system_name']}/{r['name']}" for r in found[:10])
        raise BadInput(f"{name} can mean {names}: write the whole name", [Problem("instance", f"can mean {names}")])
    return found[0]


def _run_action(db: Db, ctx: Context, who: Who, action: str, instance: Row) -> tasks.Step:
    if action == "destroy":
        return _change(db, ctx, who, action, instance, {"present": 0, "run": 0}, "gone")
    if not instance["present"]:
        raise Conflict(f"{instance['name']} is being destroyed")
    if action == "stop":
        return _change(db, ctx, who, action, instance, {"run": 0}, "stopped")
    values = {"run": 1, "start_serial": instance["start_serial"] + 1}
    if action == "restart":
        values["restart_serial"] = instance["restart_serial"] + 1
    return _change(db, ctx, who, action, instance, values, "running")


def _change(
    db: Db, ctx: Context, who: Who, action: str, instance: Row, values: dict[str, Any], goal: str
) -> tasks.Step:
    revision = node_table.next_revision(db, instance["node"])
    update(db, "instances", {"id": instance["id"]}, {**values, "revision": revision})
    detail = f"version {values['version']}" if "version" in values else ""
    table.add_event(db, instance["id"], ctx.now(), action, instance["state"], detail, who.name)
    return tasks.Step(instance, goal, revision)


def _upgrade(db: Db, ctx: Context, who: Who, target: Target, version: str) -> list[tasks.Step]:
    if not version:
        raise BadInput("version: is missing", [Problem("version", "is missing; an upgrade needs the version to go to")])
    for module in target.modules:
        if version != module["version"]:
            systems.need_version(db, module["package"], version)
            values = {"version": version, "previous_version": module["version"]}
            update(db, "modules", {"id": module["id"]}, values)
    return [_to_version(db, ctx, who, "upgrade", instance, version) for instance in target.instances]


def _rollback(db: Db, ctx: Context, who: Who, target: Target) -> list[tasks.Step]:
    for row in [*target.modules, *target.instances]:
        if not row["previous_version"]:
            raise Conflict(f"{row['name']} has no earlier version to go back to")
    for module in target.modules:
        values = {"version": module["previous_version"], "previous_version": module["version"]}
        update(db, "modules", {"id": module["id"]}, values)
    return [_to_version(db, ctx, who, "rollback", i, i["previous_version"]) for i in target.instances]


def _to_version(db: Db, ctx: Context, who: Who, action: str, instance: Row, version: str) -> tasks.Step:
    release = systems.need_version(db, instance["package"], version)
    _check_fit(db, instance, release)
    values = _release_columns(release)
    if version != instance["version"]:
        values["previous_version"] = instance["version"]
    values["start_serial"] = instance["start_serial"] + 1
    return _change(db, ctx, who, action, instance, values, "running" if instance["run"] else "stopped")


def _check_fit(db: Db, instance: Row, release: Row) -> None:
    """The other version must fit its node as a new deploy would."""
    manifest = packages.manifest_of(release)
    (node,) = placement.candidates(db, instance["module"], instance["node"])
    own = f"{instance['system_name']}/{instance['name']}"
    node.ports = {port: name for port, name in node.ports.items() if name != own}
    reason = placement.objection(node, manifest, manifest.ports)
    if reason:
        raise Conflict(reason)


# --- reading


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.page(ctx.store.read(), asked)
    return [views.instance(ctx, r) for r in found], cursor


def get(ctx: Context, name: str) -> views.View:
    return views.instance(ctx, find_instance(ctx.store.read(), name))


def timeline(ctx: Context, name: str, limit: int) -> list[views.View]:
    """What happened to an instance, newest first."""
    db = ctx.store.read()
    return [views.event(r) for r in table.events(db, find_instance(db, name)["id"], limit)]


def locate(ctx: Context, name: str) -> tuple[str, str]:
    """(node, instance id): where to ask for its logs and processes."""
    found = find_instance(ctx.store.read(), name)
    return found["node"], found["id"]


def wanted_since(ctx: Context, node: str, revision: int) -> tuple[int, list[Wanted]]:
    """The node's newest revision, and what changed after `revision`; -1 for all of it."""
    db = ctx.store.read()
    row = node_table.get(db, node)
    newest = row["wanted_revision"] if row else 0
    return newest, [_wanted(r) for r in table.wanted_since(db, node, revision)]


def _wanted(r: Row) -> Wanted:
    return Wanted(
        id=r["id"],
        name=r["name"],
        system=r["system_name"],
        module=r["module_name"],
        revision=r["revision"],
        present=bool(r["present"]),
        run=bool(r["run"]),
        release=Release(r["package"], r["version"], r["sha256"], r["size"]),
        env=json.loads(r["env"]),
        start_serial=r["start_serial"],
        restart_serial=r["restart_serial"],
    )
