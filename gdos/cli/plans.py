"""`gdos system` and `gdos module`: planning step by step, before any node exists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gdos.cli.client import Client, Session, command, segment
from gdos.cli.packages import split_version
from gdos.cli.render import Column, print_json, print_line, print_table
from gdos.cli.services import ensure_system
from gdos.cli.targets import pairs, split
from gdos.model.errors import BadInput, NotFound
from gdos.model.order import GATES

system = typer.Typer(add_completion=False, no_args_is_help=True, help="Plan systems.")
module = typer.Typer(add_completion=False, no_args_is_help=True, help="Plan the modules of a system.")
Module = Annotated[str, typer.Argument(help="SYSTEM/MODULE", metavar="SYSTEM/MODULE")]


@system.command("create")
@command
def create_system(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name.")],
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
) -> None:
    """Make a system.

    Example: gdos system create shop --description "The web shop"
    """
    made = session.client.post("/systems", {"name": name, "description": description})
    print_json(made) if session.is_json else print_line(f"{made['name']} made ({made['id']})")


@module.command("set")
@command
def set_module(
    session: Session,
    target: Module,
    package: Annotated[str | None, typer.Option("--package", "-p", help="NAME:VERSION")] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, max=1000, help="How many instances.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="K=V that a node must have.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", help="MODULE, MODULE:GATE or MODULE:GATE:TARGET, such as db:port:5432."),
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="K=V, may be repeated.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Of upgrades: 1, 25% or all.")] = None,
    canary: Annotated[int | None, typer.Option("--canary", min=0, help="Of upgrades: how many go first.")] = None,
) -> None:
    """Plan a module, or change what is planned. Gates: started, ready (the default), port, log, exit 0.

    Example: gdos module set shop/web --package web:1.0.0 --count 2 --after db:port:5432 --label zone=a
    """
    client = session.client
    owner, name = split(target)
    body: dict[str, Any] = {"count": count} if count is not None else {}
    if package:
        body["package"], body["version"] = split_version(package)
    if label is not None:
        body["placement"] = {"labels": pairs(label, "--label")}
    if after is not None:
        body["depends_on"] = [_dependency(text) for text in after]
    if env is not None:
        body["config"] = {"env": pairs(env, "--env")}
    strategy = {k: v for k, v in (("batch", batch), ("canary", canary)) if v is not None}
    if strategy:
        body["strategy"] = strategy
    made = _put(client, owner, name, body)
    print_json(made) if session.is_json else print_line(f"{owner}/{name}: {made['package']}:{made['version']} planned")


def _put(client: Client, owner: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    path = f"/systems/{segment(owner)}/modules"
    try:
        now = client.get(f"{path}/{segment(name)}")
    except NotFound:
        if "package" not in body:
            raise BadInput(f"{owner}/{name} is not there yet: name what it runs with --package NAME:VERSION") from None
        ensure_system(client, owner)
        return dict(client.post(path, {"name": name, **body}))
    for key in ("placement", "strategy"):
        if key in body:
            body[key] = {**now[key], **body[key]}
    if "package" in body and (body["package"], body["version"]) == (now["package"], now["version"]):
        del body["package"], body["version"]
    return dict(client.call("PATCH", f"{path}/{segment(name)}", body=body))


def _dependency(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    gate, _, target = rest.partition(":")
    if gate and gate not in GATES:
        raise BadInput(f"--after: expected one of the gates {', '.join(GATES)}, got {gate!r}")
    return {"module": name, **({"gate": gate} if gate else {}), **({"target": target} if target else {})}


@module.command("show")
@command
def show_module(session: Session, target: Module) -> None:
    """Show what is planned.

    Example: gdos module show shop/web
    """
    owner, name = split(target)
    found = session.client.get(f"/systems/{segment(owner)}/modules/{segment(name)}")
    if session.is_json:
        print_json(found)
        return
    rows = [{"field": k, "value": v} for k, v in found.items()]
    columns: list[Column] = [("field", lambda r: str(r["field"])), ("value", lambda r: str(r["value"]))]
    print_table(rows, columns, "")


@module.command("delete")
@command
def delete_module(session: Session, target: Module) -> None:
    """Remove a module that has no instances.

    Example: gdos module delete shop/web
    """
    owner, name = split(target)
    session.client.call("DELETE", f"/systems/{segment(owner)}/modules/{segment(name)}")
    print_json({"name": target, "deleted": True}) if session.is_json else print_line(f"{target} removed")
