"""Systems and their modules: the plan, which exists before any node does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdos.master.services import packages, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import instances as instance_table
from gdos.master.store import packages as package_table
from gdos.master.store import systems as table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import BadInput, Conflict, NotFound, Problem
from gdos.model.manifest import Manifest


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


def create_module(ctx: Context, who: Who, system: str, values: Mapping[str, Any]) -> views.View:
    """`values`: name, package, version, count, depends_on, config. Raises NotFound, BadInput, Conflict."""
    id_ = new_id("m")

    def write(db: Db) -> str:
        owner = find(db, system)
        if table.module(db, owner["id"], values["name"]) is not None:
            raise Conflict(f"the system {owner['name']} has a module {values['name']} already")
        need_version(db, values["package"], values["version"])
        _check_depends(db, owner, values["name"], values["depends_on"])
        insert(db, "modules", {"id": id_, "system": owner["id"], "created_at": ctx.now(), **_columns(values)})
        audit(db, ctx, who, "module.create", id_, {"system": owner["name"], **values})
        return str(owner["id"])

    owner = ctx.store.write(write)
    ctx.changed("system", owner)
    return get_module(ctx, owner, id_)


def change_module(ctx: Context, who: Who, system: str, id_or_name: str, values: Mapping[str, Any]) -> views.View:
    """New values for what is planned; running instances change by upgrade or restart, not by this."""

    def write(db: Db) -> tuple[str, str]:
        before = find_module(db, system, id_or_name)
        if "version" in values or "package" in values:
            if before["instances"]:
                raise Conflict(f"{before['name']} has instances: use upgrade to change its version")
            need_version(db, values.get("package", before["package"]), values.get("version", before["version"]))
        if "depends_on" in values:
            _check_depends(db, find(db, system), before["name"], values["depends_on"])
        if values:
            update(db, "modules", {"id": before["id"]}, _columns(values))
            audit(db, ctx, who, "module.change", before["id"], dict(values))
        return before["system"], before["id"]

    owner, id_ = ctx.store.write(write)
    ctx.changed("system", owner)
    return get_module(ctx, owner, id_)


def delete_module(ctx: Context, who: Who, system: str, id_or_name: str) -> None:
    """Raises NotFound, and Conflict while it has instances."""

    def write(db: Db) -> str:
        found = find_module(db, system, id_or_name)
        if found["instances"] or instance_table.of_module(db, found["id"]):
            raise Conflict(f"the module {found['name']} still has {found['instances']} instances: destroy them first")
        db.execute("DELETE FROM modules WHERE id = ?", (found["id"],))
        audit(db, ctx, who, "module.delete", found["id"], {"name": found["name"]})
        return str(found["system"])

    ctx.changed("system", ctx.store.write(write))


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: dumps(v) if k in ("depends_on", "config") else v for k, v in values.items()}


def _check_depends(db: Db, owner: Row, name: str, depends_on: list[str]) -> None:
    known = {r["name"] for r in table.modules_of(db, owner["id"])}
    problems = [
        Problem(f"depends_on[{i}]", f"the system {owner['name']} has no other module {other}")
        for i, other in enumerate(depends_on)
        if other not in known or other == name
    ]
    if problems:
        raise BadInput("depends_on: " + "; ".join(p.message for p in problems), problems)


def manifest(db: Db, module: Row) -> Manifest:
    """The manifest of the version that a module plans."""
    return packages.manifest_of(need_version(db, module["package"], module["version"]))
