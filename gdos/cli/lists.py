"""The commands that list things."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gdos.cli.client import Session, command, segment
from gdos.cli.render import Column, age, field, joined, metric, print_json, print_line, print_table, size, state
from gdos.model.values import format_duration

Search = Annotated[str | None, typer.Option("--search", "-s", help="Only what contains this.")]

NODES: list[Column] = [
    ("name", field("name")),
    ("state", state),
    ("os", lambda r: f"{r['os']}/{r['arch']}"),
    ("address", field("address")),
    ("cpu", metric("cpu", "percent")),
    ("memory", metric("memory", "percent")),
    ("disk", metric("disk", "percent")),
    ("seen", age("last_seen")),
    ("version", field("version")),
    ("labels", joined("labels")),
]
INSTANCES: list[Column] = [
    ("instance", lambda r: f"{r['system']}/{r['name']}"),
    ("state", state),
    ("node", field("node")),
    ("package", lambda r: f"{r['package']}:{r['version']}"),
    ("pid", field("pid")),
    ("up", age("started_at")),
    ("restarts", field("restarts")),
    ("cpu", metric("cpu")),
    ("memory", metric("rss", "size")),
    ("reason", field("reason")),
]
TASKS: list[Column] = [
    ("task", field("id")),
    ("kind", field("kind")),
    ("target", field("target")),
    ("state", state),
    ("done", lambda r: f"{r['progress'] * 100:.0f}%"),
    ("by", field("created_by")),
    ("age", age("created_at")),
    ("error", field("error")),
]


def _show(session: Session, rows: list[dict[str, Any]], columns: list[Column], empty: str) -> None:
    if session.is_json:
        print_json(rows)
    else:
        print_table(rows, columns, empty)


@command
def nodes(session: Session, search: Search = None) -> None:
    """List the nodes.

    Example: gdos nodes --json
    """
    _show(
        session, session.client.all("/nodes", q=search), NODES, "No node yet. `gdos join-token create` makes a token."
    )


@command
def ps(
    session: Session,
    system: Annotated[str | None, typer.Argument(help="Only this system.")] = None,
    search: Search = None,
) -> None:
    """List the instances.

    Example: gdos ps shop
    """
    query: dict[str, Any] = {"q": search}
    if system is not None:
        query["system"] = session.client.get(f"/systems/{segment(system)}")["id"]
    _show(session, session.client.all("/instances", **query), INSTANCES, "No instance yet. `gdos deploy` makes one.")


@command
def systems(session: Session, search: Search = None) -> None:
    """List the systems.

    Example: gdos systems
    """
    columns: list[Column] = [(n, field(n)) for n in ("name", "modules", "instances", "description")]
    _show(session, session.client.all("/systems", q=search), columns, "No system yet.")


@command
def modules(session: Session, system: Annotated[str, typer.Argument(help="The system.")]) -> None:
    """List the modules of a system.

    Example: gdos modules shop
    """
    names = ("name", "package", "version", "previous_version", "count", "instances")
    columns: list[Column] = [(n.replace("_", " "), field(n)) for n in names]
    _show(session, session.client.all(f"/systems/{segment(system)}/modules"), columns, "No module yet.")


@command
def packages(session: Session, search: Search = None) -> None:
    """List the packages.

    Example: gdos packages --json
    """
    columns: list[Column] = [
        ("name", field("name")),
        ("version", field("version")),
        ("size", size("size")),
        ("os", lambda r: r["os"] or "any"),
        ("uploaded", age("uploaded_at")),
        ("by", field("uploaded_by")),
        ("in use", lambda r: "yes" if r["in_use"] else "no"),
        ("sha256", lambda r: r["sha256"][:12]),
    ]
    _show(session, session.client.all("/packages", q=search), columns, "No package yet. `gdos upload ZIP` brings one.")


@command
def tasks(
    session: Session,
    task: Annotated[str | None, typer.Argument(help="Show this one with its steps.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 20,
) -> None:
    """List the newest tasks, or show one with its steps.

    Example: gdos tasks -n 5
    """
    if task is None:
        _show(session, session.client.get("/tasks", limit=limit)["items"], TASKS, "No task yet.")
        return
    found = session.client.get(f"/tasks/{segment(task)}")
    if session.is_json:
        print_json(found)
        return
    print_table([found], TASKS, "")
    columns: list[Column] = [(n, field(n)) for n in ("target", "state", "message")]
    print_table(found["steps"], columns, "No steps.")


@command
def timeline(
    session: Session,
    instance: Annotated[str, typer.Argument(help="The instance.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 50,
) -> None:
    """What happened to an instance, newest first.

    Example: gdos timeline web-1
    """
    found = session.client.get(f"/instances/{segment(instance)}/timeline", limit=limit)
    columns: list[Column] = [(n, field(n)) for n in ("at", "kind", "state", "who", "reason")]
    _show(session, found, columns, "Nothing yet.")


@command
def why(
    session: Session,
    instance: Annotated[str, typer.Argument(help="The instance.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How much of the timeline.")] = 20,
) -> None:
    """Why an instance is as it is: one line, then what happened when, newest first.

    Example: gdos why web-1
    """
    found = session.client.get(f"/instances/{segment(instance)}/why", limit=limit)
    if session.is_json:
        print_json(found)
        return
    print_line(found["verdict"])
    columns: list[Column] = [("at", field("at")), ("what", field("kind")), ("state", field("state"))]
    columns += [("who", field("who")), ("why", field("reason"))]
    print_table(found["timeline"], columns, "Nothing is known of it.")


@command
def runs(
    session: Session,
    instance: Annotated[str, typer.Argument(help="The instance.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 20,
) -> None:
    """The runs of a job, a schedule or a service that are over, newest first.

    Example: gdos runs backup-1
    """
    found = session.client.get(f"/instances/{segment(instance)}/runs", limit=limit)["items"]
    columns: list[Column] = [
        ("run", lambda r: "-" if r["skipped"] else str(r["number"])),
        ("due", field("due_at")),
        ("started", field("started_at")),
        ("took", lambda r: "" if r["skipped"] else format_duration(r["duration_s"])),
        ("code", lambda r: "" if r["code"] is None else str(r["code"])),
        ("reason", field("reason")),
        ("log", field("log")),
    ]
    _show(session, found, columns, "No run is over yet.")


@command
def audit(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 50,
    search: Search = None,
) -> None:
    """Who did what, newest first.

    Example: gdos audit -n 20
    """
    found = session.client.get("/audit", limit=limit, q=search)["items"]
    columns: list[Column] = [(n, field(n)) for n in ("at", "who", "address", "action", "object", "result", "detail")]
    _show(session, found, columns, "Nothing yet.")
