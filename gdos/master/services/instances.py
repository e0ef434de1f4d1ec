"""Instances: deployed, acted on, looked at. All of it is a change of what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gdos.master.services import changes, nodes, orders, packages, placing, systems, tasks, values, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import instances as table
from gdos.master.store import nodes as node_table
from gdos.master.store.db import Db, Page, insert
from gdos.master.store.reader import Row
from gdos.model import placement
from gdos.model.errors import BadInput, Conflict, NotFound, Problem
from gdos.model.placement import Reason
from gdos.model.wanted import Release, Wanted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deploy:
    system: str
    module: str
    node: str = placing.AUTO
    count: int = 1
    run: bool = True
    env: dict[str, str] | None = None


class _OnlyAsked(Exception):
    """Ends a transaction that was only to show what would happen."""

    def __init__(self, result: Any) -> None:
        super().__init__("a dry run")
        self.result = result


def rehearse(ctx: Context, write: Callable[[Db], T]) -> T:
    """What `write` would do, with nothing of it kept. Raises what it raises."""

    def act(db: Db) -> None:
        raise _OnlyAsked(write(db))

    try:
        ctx.store.write(act)
    except _OnlyAsked as e:
        return e.result  # type: ignore[no-any-return]
    raise AssertionError("a dry run ends by an exception")


def carry_out(ctx: Context, write: Callable[[Db], tuple[str, tasks.Touched]], *, is_dry: bool) -> views.View:
    """A change that becomes a task; `is_dry`: the task as it would be, and nothing is kept."""
    if is_dry:
        return {**rehearse(ctx, lambda db: tasks.view(db, write(db)[0])), "id": "", "state": "queued"}
    task, touched = ctx.store.write(write)
    tasks.tell(ctx, touched)
    return tasks.get(ctx, task)


def deploy(ctx: Context, who: Who, asked: Deploy, *, is_dry: bool = False) -> views.View:
    """New instances of a module; returns the task, whose note says why which node.

    Raises NotFound for system, module or node, Conflict when ports or the OS do not fit.
    """

    def write(db: Db) -> tuple[str, tasks.Touched]:
        module = systems.find_module(db, asked.system, asked.module)
        made, reasons = place(db, ctx, who, module, asked)
        target = f"{module['system_name']}/{module['name']}"
        detail = {"count": asked.count, "node": asked.node, "version": module["version"]}
        audit(db, ctx, who, "instance.deploy", target, detail)
        action = "deploy" if asked.run else "bring"
        steps = [tasks.Planned(action, instance) for instance in made]
        return tasks.create(db, ctx, who, tasks.Order("deploy", target, steps, note=placement_note(reasons)))

    return carry_out(ctx, write, is_dry=is_dry)


def place(db: Db, ctx: Context, who: Who, module: Row, asked: Deploy) -> tuple[list[Row], list[list[Reason]]]:
    """New rows for `asked.count` instances, not running yet, and why each is where it is."""
    if module["external"]:
        raise Conflict(f"{module['name']} was adopted: `gdos adopt` brings another one under care")
    release = systems.need_version(db, module["package"], module["version"])
    manifest = packages.manifest_of(release)
    named = None if asked.node == placing.AUTO else nodes.find(db, asked.node)["id"]
    found = placing.candidates(db, ctx, module["id"], named)
    wish = placing.wish_of(module)
    made, reasons = [], []
    for _ in range(asked.count):
        node, why = placing.choose(found, manifest, wish, named)
        created = add(db, ctx, who, module, node.id, changes.release_columns(release))
        if asked.env:
            values.write(db, ctx, who, values.scope_of_instance(created), values.Change(asked.env))
        node.take(created["name"], manifest.ports.values(), placement.needed_memory(manifest, wish))
        made.append(created)
        reasons.append(why)
    return made, reasons


def placement_note(reasons: list[list[Reason]]) -> str:
    """Why the nodes were chosen, once for each different choice."""
    lines = []
    for why in reasons:
        words = "; ".join(f"{r.node} {r.verdict}: {r.text}" for r in why)
        if words not in lines:
            lines.append(words)
    return "\n".join(lines[:20])


def add(db: Db, ctx: Context, who: Who, module: Row, node: str, more: dict[str, Any]) -> Row:
    """A new instance of a module on a node, not running yet."""
    taken = table.names_in(db, module["system"])
    number = next(n for n in range(1, len(taken) + 2) if f"{module['name']}-{n}" not in taken)
    id_ = new_id("i")
    row = {
        "id": id_,
        "name": f"{module['name']}-{number}",
        "system": module["system"],
        "module": module["id"],
        "node": node,
        "run": 0,
        "created_at": ctx.now(),
        "revision": node_table.next_revision(db, node),
        **more,
    }
    insert(db, "instances", row)
    said = f"version {more['version']}" if more["version"] else "adopted"
    table.add_event(db, id_, ctx.now(), "deploy", "pending", said, who.name)
    created = table.get(db, id_)
    assert created is not None
    return created


def act(ctx: Context, who: Who, asked: orders.Asked, find: orders.Find, *, is_dry: bool = False) -> views.View:
    """An action on an instance, a module or a system; returns the task. `is_dry`: the plan, and nothing is done."""

    def write(db: Db) -> tuple[str, tasks.Touched]:
        target = find(db)
        order = orders.build(db, target, asked)
        version = {"version": asked.version} if asked.version else ""
        audit(db, ctx, who, f"instance.{asked.action}", target.text, version)
        task, touched = tasks.create(db, ctx, who, order)
        _refuse_whole(db, task, target, asked)
        return task, touched

    return carry_out(ctx, write, is_dry=is_dry)


def _refuse_whole(db: Db, task: str, target: orders.Target, asked: orders.Asked) -> None:
    """One instance that cannot be acted on is an error to whom asked, not a task that has failed."""
    if len(target.instances) == 1:
        for step in tasks.steps_of(db, task):
            if step["state"] == "failed" and not step["is_issued"]:
                raise Conflict(step["message"])


def by_name(name: str) -> Callable[[Db], Row]:
    """For targets: one instance by what a person calls it."""
    return lambda db: find_instance(db, name)


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


def runs(ctx: Context, name: str, asked: Page) -> tuple[list[views.View], str | None]:
    """The runs of an instance that are over, newest first."""
    db = ctx.store.read()
    asked.filters["instance"] = find_instance(db, name)["id"]
    found, cursor = table.runs_page(db, asked)
    return [views.run(r) for r in found], cursor


def locate(ctx: Context, name: str) -> tuple[str, str]:
    """(node, instance id): where to ask for its logs and processes."""
    found = find_instance(ctx.store.read(), name)
    return found["node"], found["id"]


def wanted_since(ctx: Context, node: str, revision: int) -> tuple[int, list[Wanted]]:
    """The node's newest revision, and what changed after `revision`; -1 for all of it."""
    db = ctx.store.read()
    row = node_table.get(db, node)
    newest = row["wanted_revision"] if row else 0
    changed = table.wanted_since(db, node, revision)
    env = values.effective(db, ctx, changed)
    return newest, [_wanted(db, r, env[r["id"]]) for r in changed]


def _wanted(db: Db, r: Row, env: dict[str, str]) -> Wanted:
    return Wanted(
        id=r["id"],
        name=r["name"],
        system=r["system_name"],
        module=r["module_name"],
        revision=r["revision"],
        present=bool(r["present"]),
        run=bool(r["run"]),
        release=Release(r["package"], r["version"], r["sha256"], r["size"]),
        env=env,
        config=r["config"],
        staged=_staged(db, r),
        external=changes.external_of(r) if r["external"] else None,
        start_serial=r["start_serial"],
        restart_serial=r["restart_serial"],
    )


def _staged(db: Db, r: Row) -> Release | None:
    if not r["staged"]:
        return None
    found = systems.need_version(db, r["package"], r["staged"])
    return Release(found["name"], found["version"], found["sha256"], found["size"])
