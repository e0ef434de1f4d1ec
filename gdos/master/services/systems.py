"""Systems and their modules: the plan, which exists before any node does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gdos.master.services import values, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import instances as instance_table
from gdos.master.store import packages as package_table
from gdos.master.store import systems as table
from gdos.master.store import values as value_table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model import order
from gdos.model.errors import BadInput, Conflict, NotFound, Problem, raise_if


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.page(ctx.store.read(), asked)
    return [views.system(r) for r in found], cursor


def get(ctx: Context, id_or_name: str) -> views.View:
    return views.system(find(ctx.store.read(), id_or_name))


def find(db: Db, id_or_name: str) -> Row:
    """Raises NotFound naming the systems that there are."""
    found = table.get(db, id_or_name)
    if found is None:
        known = [r["name"] for r in table.page(db, Page(limit=10))[0]]
        raise NotFound(f"there is no system {id_or_name}; there are: {', '.join(known) or 'none yet'}")
    return found


def create(ctx: Context, who: Who, name: str, description: str) -> views.View:
    """Raises Conflict when the name is taken."""
    id_ = new_id("s")

    def write(db: Db) -> None:
        if table.get(db, name) is not None:
            raise Conflict(f"there is a system {name} already")
        insert(db, "systems", {"id": id_, "name": name, "description": description, "created_at": ctx.now()})
        audit(db, ctx, who, "system.create", id_, {"name": name})

    ctx.store.write(write)
    ctx.changed("system", id_)
    return get(ctx, id_)


def change(ctx: Context, who: Who, id_or_name: str, values: Mapping[str, Any]) -> views.View:
    """New `name` or `description`. Raises NotFound, Conflict."""

    def write(db: Db) -> str:
        before = find(db, id_or_name)
        name = values.get("name", before["name"])
        other = table.get(db, name)
        if other is not None and other["id"] != before["id"]:
            raise Conflict(f"there is a system {name} already")
        if values:
            update(db, "systems", {"id": before["id"]}, values)
            audit(db, ctx, who, "system.change", before["id"], dict(values))
        return str(before["id"])

    id_ = ctx.store.write(write)
    ctx.changed("system", id_)
    return get(ctx, id_)


def delete(ctx: Context, who: Who, id_or_name: str) -> None:
    """With its modules. Raises NotFound, and Conflict while it has instances."""

    def write(db: Db) -> str:
        found = find(db, id_or_name)
        if found["instances"]:
            raise Conflict(f"the system {found['name']} still has {found['instances']} instances: destroy them first")
        value_table.delete(db, [found["id"], *(m["id"] for m in table.modules_of(db, found["id"]))])
        db.execute("DELETE FROM modules WHERE system = ?", (found["id"],))
        db.execute("DELETE FROM systems WHERE id = ?", (found["id"],))
        audit(db, ctx, who, "system.delete", found["id"], {"name": found["name"]})
        return str(found["id"])

    ctx.changed("system", ctx.store.write(write))


# --- modules


def modules(ctx: Context, system: str, asked: Page) -> tuple[list[views.View], str | None]:
    db = ctx.store.read()
    asked.filters["system"] = find(db, system)["id"]
    found, cursor = table.module_page(db, asked)
    return [views.module(r) for r in found], cursor


def get_module(ctx: Context, system: str, id_or_name: str) -> views.View:
    return views.module(find_module(ctx.store.read(), system, id_or_name))


def find_module(db: Db, system: str, id_or_name: str) -> Row:
    """Raises NotFound naming the modules of the system."""
    owner = find(db, system)
    found = table.module(db, owner["id"], id_or_name)
    if found is None or found["system"] != owner["id"]:
        known = ", ".join(r["name"] for r in table.modules_of(db, owner["id"])) or "none yet"
        raise NotFound(f"the system {owner['name']} has no module {id_or_name}; it has: {known}")
    return found


def need_version(db: Db, name: str, version: str) -> Row:
    """The package that a module names. Raises BadInput at the field that is wrong."""
    found = package_table.get(db, name, version)
    if found is not None:
        return found
    known = package_table.versions(db, name)
    if known:
        said = f"{name} {version} is not uploaded; uploaded are: {', '.join(known[:10])}"
        raise BadInput(said, [Problem("version", said)])
    said = f"there is no package {name}; uploaded are: {', '.join(package_table.names(db)[:10]) or 'none yet'}"
    raise BadInput(said, [Problem("package", said)])


def create_module(ctx: Context, who: Who, system: str, wish: Mapping[str, Any]) -> views.View:
    """`wish`: name, package, version, count, depends_on, placement, strategy, config. Raises NotFound, BadInput,
    Conflict.
    """

    def write(db: Db) -> Row:
        return add_module(db, ctx, who, find(db, system), wish)

    made = ctx.store.write(write)
    ctx.changed("system", made["system"])
    return get_module(ctx, made["system"], made["id"])


def add_module(db: Db, ctx: Context, who: Who, owner: Row, wish: Mapping[str, Any]) -> Row:
    """A new module in a transaction that is under way."""
    if table.module(db, owner["id"], wish["name"]) is not None:
        raise Conflict(f"the system {owner['name']} has a module {wish['name']} already")
    if not wish.get("external"):
        need_version(db, wish["package"], wish["version"])
    check_depends(db, owner, wish["name"], wish.get("depends_on", []))
    id_ = new_id("m")
    insert(db, "modules", {"id": id_, "system": owner["id"], "created_at": ctx.now(), **_columns(wish)})
    audit(db, ctx, who, "module.create", id_, {"system": owner["name"], **_told(wish)})
    made = find_module(db, owner["id"], id_)
    _write_env(db, ctx, who, made, wish)
    return made


def change_module(ctx: Context, who: Who, system: str, id_or_name: str, wish: Mapping[str, Any]) -> views.View:
    """New values for what is planned; running instances change by upgrade or restart, not by this."""

    def write(db: Db) -> Row:
        before = find_module(db, system, id_or_name)
        if ("version" in wish or "package" in wish) and before["instances"]:
            raise Conflict(f"{before['name']} has instances: use upgrade to change its version")
        return alter_module(db, ctx, who, before, wish)

    changed = ctx.store.write(write)
    ctx.changed("system", changed["system"])
    for instance in instance_table.below(ctx.store.read(), changed["id"]):
        ctx.wake(instance["node"])
    return get_module(ctx, changed["system"], changed["id"])


def alter_module(db: Db, ctx: Context, who: Who, before: Row, wish: Mapping[str, Any]) -> Row:
    """The same in a transaction that is under way."""
    if "version" in wish or "package" in wish:
        need_version(db, wish.get("package", before["package"]), wish.get("version", before["version"]))
    if "depends_on" in wish:
        check_depends(db, find(db, before["system"]), before["name"], wish["depends_on"])
    columns = _columns(wish)
    if columns:
        update(db, "modules", {"id": before["id"]}, columns)
    if wish:
        audit(db, ctx, who, "module.change", before["id"], _told(wish))
    _write_env(db, ctx, who, before, wish)
    return find_module(db, before["system"], before["id"])


def _write_env(db: Db, ctx: Context, who: Who, module: Row, wish: Mapping[str, Any]) -> None:
    """`config.env` of a module are its plain values; its secrets stay as they are."""
    if "config" not in wish:
        return
    env = dict(wish["config"].get("env", {}))
    now = views.plain_values(module["entries"])
    change = values.Change(env, unset=[name for name in now if name not in env])
    values.write(db, ctx, who, values.scope_of_module(module), change)


def _told(wish: Mapping[str, Any]) -> dict[str, Any]:
    """For the audit trail: the names of values, not what they are."""
    return {k: sorted(v.get("env", {})) if k == "config" else v for k, v in wish.items()}


def delete_module(ctx: Context, who: Who, system: str, id_or_name: str) -> None:
    """Raises NotFound, and Conflict while it has instances or others depend on it."""
    ctx.changed("system", ctx.store.write(lambda db: drop_module(db, ctx, who, find_module(db, system, id_or_name))))


def drop_module(db: Db, ctx: Context, who: Who, found: Row) -> str:
    """The same in a transaction that is under way; returns its system."""
    if found["instances"] or instance_table.of_module(db, found["id"]):
        raise Conflict(f"the module {found['name']} still has {found['instances']} instances: destroy them first")
    users = [m["name"] for m in table.modules_of(db, found["system"]) if found["name"] in _names(m)]
    if users:
        raise Conflict(f"{', '.join(users)} depend on the module {found['name']}: change that first")
    value_table.delete(db, [found["id"]])
    db.execute("DELETE FROM modules WHERE id = ?", (found["id"],))
    audit(db, ctx, who, "module.delete", found["id"], {"name": found["name"]})
    return str(found["system"])


def _names(module: Row) -> list[str]:
    return [d["module"] for d in json.loads(module["depends_on"])]


_JSON = ("depends_on", "placement", "strategy")


def _columns(wish: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: dumps(v) if k in _JSON else v for k, v in wish.items() if k not in ("config", "depends_on")}
    if "depends_on" in wish:
        found["depends_on"] = dumps([{"module": d} if isinstance(d, str) else d for d in wish["depends_on"]])
    if isinstance(found.get("external"), dict):
        found["external"] = dumps(found["external"])
    return found


def check_depends(db: Db, owner: Row, name: str, depends_on: Sequence[Any]) -> None:
    """Every module that is depended on is there, and nobody waits for himself. Raises BadInput naming the circle."""
    graph = {r["name"]: _names(r) for r in table.modules_of(db, owner["id"])}
    graph[name] = [d if isinstance(d, str) else d["module"] for d in depends_on]
    problems = [
        Problem(f"depends_on[{i}]", f"the system {owner['name']} has no other module {other}")
        for i, other in enumerate(graph[name])
        if other not in graph or other == name
    ]
    raise_if(problems, "depends_on")
    order.waves(graph)


def system_scope(system: str) -> values.FindScope:
    """Whose values: a system's."""
    return lambda db: values.scope_of_system(find(db, system))


def module_scope(system: str, module: str) -> values.FindScope:
    """Whose values: a module's."""
    return lambda db: values.scope_of_module(find_module(db, system, module))
