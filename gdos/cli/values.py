"""`gdos values`: configuration of systems, modules and instances."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from gdos.cli.client import Session, command
from gdos.cli.render import Column, field, print_json, print_line, print_table
from gdos.cli.targets import Target, first_found, pairs, paths_of
from gdos.model.errors import BadInput

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Configuration values and secrets.")
HIDDEN = "********"
Note = Annotated[str, typer.Option("--note", help="Why; kept in the history.")]


def _path(session: Session, target: str) -> str:
    """Where the values of a target are; NotFound names what there is."""
    found: str = first_found(paths_of(session.client, target), lambda path: _there(session, path), target)
    return found


def _there(session: Session, path: str) -> str:
    session.client.get(f"{path}/values")
    return f"{path}/values"


@app.command("show")
@command
def show(session: Session, target: Target) -> None:
    """What holds for a system, a module or an instance, and where each value comes from. Secrets are not shown.

    Example: gdos values show shop/web
    """
    _print(session, session.client.get(_path(session, target)))


def _print(session: Session, found: dict[str, Any]) -> None:
    if session.is_json:
        print_json(found)
        return
    columns: list[Column] = [("name", field("name")), ("value", _value("value")), ("from", field("origin"))]
    print_table(found["effective"], columns, f"{found['scope']} has no values.")


def _value(name: str) -> Any:
    return lambda row: HIDDEN if row["is_secret"] else ("" if row[name] is None else str(row[name]))


@app.command("set")
@command
def set_(
    session: Session,
    target: Target,
    values: Annotated[list[str] | None, typer.Argument(help="K=V, may be repeated.", metavar="K=V")] = None,
    secret: Annotated[
        list[str] | None, typer.Option("--secret", help="Name of a secret; its text from the environment or stdin.")
    ] = None,
    note: Note = "",
) -> None:
    """Set values, for the next start. A secret's text comes from the environment or standard input, not the command.

    Example: gdos values set shop/web LOG_LEVEL=debug; gdos values set shop --secret DB_PASSWORD < password.txt
    """
    secrets = {}
    for name in secret or []:
        if "=" in name:
            raise BadInput("--secret takes a name only: the text of a secret does not belong on a command line")
        secrets[name] = os.environ[name] if name in os.environ else sys.stdin.readline().rstrip("\r\n")
    body = {"values": pairs(values or [], "values"), "secrets": secrets, "note": note}
    if not body["values"] and not secrets:
        raise BadInput("nothing to set: give K=V, or --secret NAME")
    _print(session, session.client.call("PATCH", _path(session, target), body=body))


@app.command("unset")
@command
def unset(
    session: Session,
    target: Target,
    names: Annotated[list[str], typer.Argument(help="Which.", metavar="NAME")],
    note: Note = "",
) -> None:
    """Remove values; what is set further up holds again.

    Example: gdos values unset shop/web LOG_LEVEL
    """
    _print(session, session.client.call("PATCH", _path(session, target), body={"unset": names, "note": note}))


@app.command("history")
@command
def history(session: Session, target: Target) -> None:
    """All versions of a target's own values, newest first.

    Example: gdos values history shop
    """
    found = session.client.all(f"{_path(session, target)}/history")
    columns: list[Column] = [
        *((n, field(n)) for n in ("number", "at", "who")),
        ("changes", lambda r: ", ".join(f"{c['name']} {c['kind']}" for c in r["changes"])),
        ("note", field("note")),
    ]
    print_json(found) if session.is_json else print_table(found, columns, "No values yet.")


@app.command("diff")
@command
def diff(
    session: Session,
    target: Target,
    old: Annotated[int, typer.Argument(help="A version; 0 is before all.", min=0)],
    new: Annotated[int, typer.Argument(help="Another.", min=0)],
) -> None:
    """What changed between two versions.

    Example: gdos values diff shop 3 5
    """
    found = session.client.get(f"{_path(session, target)}/diff", old=old, new=new)
    columns: list[Column] = [("name", field("name")), ("", field("kind"))]
    columns += [("before", _value("before")), ("after", _value("after"))]
    print_json(found) if session.is_json else print_table(found, columns, "No difference.")


@app.command("revert")
@command
def revert(
    session: Session, target: Target, number: Annotated[int, typer.Argument(help="The version.", min=0)]
) -> None:
    """The values of an earlier version again, as a new version.

    Example: gdos values revert shop/web 4
    """
    done = session.client.post(f"{_path(session, target)}/revert", {"number": number})
    if not session.is_json and not session.is_quiet:
        print_line(f"{done['scope']} is as it was in version {number}; that is version {done['number']} now")
    _print(session, done)
