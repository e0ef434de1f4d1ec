"""`gdos status`: nodes, instances and tasks; live on a terminal, once in a pipe."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from gdos.cli.client import Session, command
from gdos.cli.lists import INSTANCES, NODES, TASKS
from gdos.cli.render import is_terminal, print_json, print_line, print_table, rich_table, state
from gdos.model.errors import GdosError

EVERY_S = 1.0


@command
def status(
    session: Session, once: Annotated[bool, typer.Option("--once", help="Print once, also on a terminal.")] = False
) -> None:
    """Nodes, instances and running tasks; live until Ctrl-C.

    Example: gdos status
    """
    if session.is_json:
        print_json(look(session))
    elif once or not is_terminal():
        found = look(session)
        print_line(summary(found))
        print_table(found["nodes"], NODES, "No node yet.")
        print_table(found["instances"], INSTANCES, "No instance yet.")
        if found["tasks"]:
            print_table(found["tasks"], TASKS, "")
    else:
        _live(session)


def look(session: Session) -> dict[str, Any]:
    """What there is now; of the tasks only those that are open."""
    client = session.client
    tasks = [t for t in client.get("/tasks", limit=50)["items"] if t["finished_at"] is None]
    return {"nodes": client.all("/nodes"), "instances": client.all("/instances"), "tasks": tasks}


def summary(found: dict[str, Any]) -> str:
    """'3 nodes (2 online), 12 instances (11 running, 1 backoff)'."""
    nodes, instances = found["nodes"], found["instances"]
    online = sum(n["state"] == "online" for n in nodes)
    counts: dict[str, int] = {}
    for instance in instances:
        counts[state(instance)] = counts.get(state(instance), 0) + 1
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{len(nodes)} nodes ({online} online), {len(instances)} instances{f' ({parts})' if parts else ''}"


def view(found: dict[str, Any], note: str = "") -> Any:
    """The same as one renderable."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(summary(found), style="bold"), rich_table(found["nodes"], NODES)]
    parts.append(rich_table(found["instances"], INSTANCES))
    if found["tasks"]:
        parts.append(rich_table(found["tasks"], TASKS))
    if note:
        parts.append(Text(note, style="yellow"))
    return Group(*parts)


def _live(session: Session) -> None:
    from rich.live import Live

    found = look(session)
    with Live(view(found), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            try:
                found = look(session)
                live.update(view(found), refresh=True)
            except GdosError as e:
                live.update(view(found, f"{e.detail}; data as of {time.strftime('%H:%M:%S')}"), refresh=True)
