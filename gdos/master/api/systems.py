"""Systems and modules."""

from __future__ import annotations

from typing import Any

from gdos.master.api import border
from gdos.master.api import shapes as s
from gdos.master.api import shapes_plan as p
from gdos.master.api.instances import act_on
from gdos.master.api.router import OPERATOR, VIEWER, Call, Router, listed, page_of, values_of
from gdos.master.services import apply, orders, systems
from gdos.model import systemfile

api = Router()


class NamedQuery(s.ListQuery):
    name: str | None = None


@api.add("GET", "/systems", VIEWER, query=NamedQuery, returns=s.Listed[s.System])
def list_systems(call: Call) -> object:
    """All systems."""
    return listed(systems.page(call.ctx, page_of(call)))


@api.add("POST", "/systems", OPERATOR, body=s.SystemNew, returns=s.System, status=201)
def create_system(call: Call) -> object:
    """Make a system."""
    return systems.create(call.ctx, call.who, call.body.name, call.body.description)


@api.add("GET", "/systems/{id}", VIEWER, returns=s.System)
def get_system(call: Call) -> object:
    """One system, by id or name."""
    return systems.get(call.ctx, call.args["id"])


@api.add("PATCH", "/systems/{id}", OPERATOR, body=s.SystemChange, returns=s.System)
def change_system(call: Call) -> object:
    """Rename or describe a system."""
    border.check_match(call, systems.get(call.ctx, call.args["id"]))
    return systems.change(call.ctx, call.who, call.args["id"], values_of(call.body))


@api.add("DELETE", "/systems/{id}", OPERATOR)
def delete_system(call: Call) -> None:
    """Remove a system without instances, with its modules."""
    systems.delete(call.ctx, call.who, call.args["id"])


@api.add("POST", "/systems/{id}/actions", OPERATOR, body=s.Action, returns=s.Task, status=202)
def act_on_system(call: Call) -> object:
    """Start, stop, restart, upgrade, roll back or destroy all of a system, in start order or its reverse."""
    return act_on(call, orders.system_of(call.args["id"]))


@api.add("GET", "/systems/{id}/modules", VIEWER, query=NamedQuery, returns=s.Listed[s.Module])
def list_modules(call: Call) -> object:
    """The modules of a system."""
    return listed(systems.modules(call.ctx, call.args["id"], page_of(call)))


@api.add("POST", "/systems/{id}/modules", OPERATOR, body=s.ModuleNew, returns=s.Module, status=201)
def create_module(call: Call) -> object:
    """Plan a module."""
    return systems.create_module(call.ctx, call.who, call.args["id"], values_of(call.body))


@api.add("GET", "/systems/{id}/modules/{module}", VIEWER, returns=s.Module)
def get_module(call: Call) -> object:
    """One module, by id or name."""
    return systems.get_module(call.ctx, call.args["id"], call.args["module"])


@api.add("PATCH", "/systems/{id}/modules/{module}", OPERATOR, body=s.ModuleChange, returns=s.Module)
def change_module(call: Call) -> object:
    """Change what is planned; running instances change by upgrade or restart."""
    border.check_match(call, systems.get_module(call.ctx, call.args["id"], call.args["module"]))
    return systems.change_module(call.ctx, call.who, call.args["id"], call.args["module"], values_of(call.body))


@api.add("DELETE", "/systems/{id}/modules/{module}", OPERATOR)
def delete_module(call: Call) -> None:
    """Remove a module without instances."""
    systems.delete_module(call.ctx, call.who, call.args["id"], call.args["module"])


@api.add("POST", "/systems/{id}/modules/{module}/actions", OPERATOR, body=s.Action, returns=s.Task, status=202)
def act_on_module(call: Call) -> object:
    """Start, stop, restart, upgrade, roll back or destroy all instances of a module."""
    return act_on(call, orders.module_of(call.args["id"], call.args["module"]))


@api.add("POST", "/apply", OPERATOR, body=p.ApplyNew, returns=p.Applied, status=202, is_secret=True)
def apply_file(call: Call) -> object:
    """Make a system as its file says, or show the exact difference."""
    wish = apply.Wish(systemfile.read(call.body.file), call.body.prune)
    return apply.apply(call.ctx, call.who, wish, is_dry=call.body.dry_run)


@api.add("GET", "/systems/{id}/export", VIEWER, returns=dict[str, Any])
def export_system(call: Call) -> object:
    """A system as its file; secrets are marked to be kept and not shown."""
    return apply.export(call.ctx, call.args["id"])
