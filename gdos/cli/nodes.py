"""`gdos node`: rename, label, remove."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gdos.cli.client import Session, command, segment
from gdos.cli.lists import NODES
from gdos.cli.render import print_json, print_line, print_table
from gdos.model.errors import BadInput

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Rename, label or remove a node.")
Node = Annotated[str, typer.Argument(help="Name or id.")]


def _show(session: Session, node: dict[str, Any]) -> None:
    if session.is_json:
        print_json(node)
    else:
        print_table([node], NODES, "")


@app.command("show")
@command
def show(session: Session, node: Node) -> None:
    """Show one node.

    Example: gdos node show web-03 --json
    """
    _show(session, session.client.get(f"/nodes/{segment(node)}"))


@app.command("rename")
@command
def rename(session: Session, node: Node, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a node another name.

    Example: gdos node rename web-03 edge-03
    """
    _show(session, session.client.call("PATCH", f"/nodes/{segment(node)}", body={"name": name}))


@app.command("label")
@command
def label(
    session: Session, node: Node, labels: Annotated[list[str], typer.Argument(help="key=value to set, key- to remove.")]
) -> None:
    """Set and remove labels.

    Example: gdos node label web-03 zone=a old-
    """
    now = dict(session.client.get(f"/nodes/{segment(node)}")["labels"])
    for text in labels:
        key, equals, value = text.partition("=")
        if equals:
            now[key] = value
        elif text.endswith("-"):
            now.pop(text[:-1], None)
        else:
            raise BadInput(f"expected key=value or key-, got {text!r}")
    _show(session, session.client.call("PATCH", f"/nodes/{segment(node)}", body={"labels": now}))


@app.command("remove")
@command
def remove(
    session: Session,
    node: Node,
    force: Annotated[bool, typer.Option("--force", help="With its instances' records; it must be offline.")] = False,
) -> None:
    """Forget a node and revoke its credential.

    Example: gdos node remove web-03
    """
    session.client.call("DELETE", f"/nodes/{segment(node)}", query={"force": force or None})
    if session.is_json:
        print_json({"node": node, "removed": True})
    else:
        print_line(f"{node} removed")
