"""Configuration values of systems, modules and instances: the same five routes for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from gdos.master.api import shapes as s
from gdos.master.api import shapes_plan as p
from gdos.master.api.router import OPERATOR, VIEWER, Call, Router, listed, page_of
from gdos.master.services import instances, systems, values

api = Router()


class DiffQuery(Struct):
    """From version `old` to version `new`; 0 is before all of them."""

    old: Annotated[int, Meta(ge=0)]
    new: Annotated[int, Meta(ge=0)]


def _scope_of_instance(call: Call) -> values.FindScope:
    name = call.args["id"]
    return lambda db: values.scope_of_instance(instances.find_instance(db, name))


def _add(path: str, what: str, scope: Callable[[Call], values.FindScope]) -> None:
    def get(call: Call) -> object:
        return values.show(call.ctx, scope(call))

    def change(call: Call) -> object:
        b = call.body
        return values.change(call.ctx, call.who, scope(call), values.Change(b.values, b.secrets, b.unset, note=b.note))

    def history(call: Call) -> object:
        return listed(values.history(call.ctx, scope(call), page_of(call)))

    def diff(call: Call) -> object:
        return values.diff(call.ctx, scope(call), call.query.old, call.query.new)

    def revert(call: Call) -> object:
        return values.revert(call.ctx, call.who, scope(call), call.body.number)

    for handler, said in (
        (get, f"The values of {what}, and what holds there with its origin; secrets are not shown."),
        (change, f"Set and remove values of {what}; they hold from the next start on."),
        (history, f"All versions of the values of {what}, newest first."),
        (diff, f"What changed between two versions of the values of {what}."),
        (revert, f"The values of {what} as in an earlier version."),
    ):
        handler.__doc__ = said
        handler.__name__ = f"{handler.__name__}_{what.split()[-1]}"
    api.add("GET", path, VIEWER, returns=p.Values)(get)
    api.add("PATCH", path, OPERATOR, body=p.ValuesChange, returns=p.Values, is_secret=True)(change)
    api.add("GET", f"{path}/history", VIEWER, query=s.ListQuery, returns=s.Listed[p.ValuesVersion])(history)
    api.add("GET", f"{path}/diff", VIEWER, query=DiffQuery, returns=list[p.ValueDifference])(diff)
    api.add("POST", f"{path}/revert", OPERATOR, body=p.ValuesRevert, returns=p.Values)(revert)


_add("/systems/{id}/values", "a system", lambda call: systems.system_scope(call.args["id"]))
_add(
    "/systems/{id}/modules/{module}/values",
    "a module",
    lambda call: systems.module_scope(call.args["id"], call.args["module"]),
)
_add("/instances/{id}/values", "an instance", _scope_of_instance)
