"""What commands act on: SYSTEM, SYSTEM/MODULE or INSTANCE, and how they wait for the task that it becomes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gdos.cli.client import Client, Session, segment
from gdos.cli.render import print_json, print_line
from gdos.model.errors import BadInput, NotFound

Target = Annotated[str, typer.Argument(help="INSTANCE, SYSTEM/MODULE or SYSTEM.", metavar="TARGET")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and do nothing.")]


def split(target: str) -> tuple[str, str]:
    """'SYSTEM/MODULE' -> both. Raises BadInput."""
    system, slash, module = target.partition("/")
    if not (system and slash and module) or "/" in module:
        raise BadInput(f"expected SYSTEM/MODULE, got {target!r}")
    return system, module


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """['K=V', ...] as a map. Raises BadInput."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise BadInput(f"{option}: expected K=V, got {text!r}")
        found[key] = value
    return found


def paths_of(client: Client, target: str) -> list[str]:
    """Where a target may be in the API: SYSTEM/MODULE or SYSTEM/INSTANCE, an instance, or a system, in this order."""
    system, slash, rest = target.partition("/")
    if not slash:
        return [f"/instances/{segment(target)}", f"/systems/{segment(target)}"]
    instance = f"/instances/{segment(instance_id(client, system, rest) or target)}"
    return [f"/systems/{segment(system)}/modules/{segment(rest)}", instance]


def instance_id(client: Client, system: str, name: str) -> str | None:
    """The id of an instance by its system and name."""
    found = [i for i in client.all("/instances", name=name) if i["system"] == system]
    return str(found[0]["id"]) if found else None


def first_found(paths: list[str], call: Callable[[str], Any], target: str) -> Any:
    """What the first of these paths answers that is there. Raises NotFound."""
    for path in paths:
        try:
            return call(path)
        except NotFound:
            continue
    raise NotFound(f"there is no instance, module or system {target}; `gdos ps` and `gdos systems` list them")


def act(client: Client, target: str, action: str, **more: Any) -> dict[str, Any]:
    """The task of an action."""
    body = {"action": action, **{k: v for k, v in more.items() if v not in (None, False)}}
    found: dict[str, Any] = first_found(
        paths_of(client, target), lambda path: client.post(f"{path}/actions", body), target
    )
    return found


def finish(session: Session, task: dict[str, Any], wait: bool, timeout_s: float) -> None:
    """Print the task, after it has ended when that was asked for; one without an id is only a plan."""
    if wait and task["id"]:
        task = _follow(session, task, timeout_s)
    if session.is_json:
        print_json(task)
    elif not session.is_quiet:
        print_task(task)


def print_task(task: dict[str, Any]) -> None:
    """Its steps, a line each, then what became of it."""
    is_plan = not task["id"]
    if task["note"] and (is_plan or task["is_paused"]):
        print_line(task["note"])
    for step in task["steps"]:
        phase = f"[{step['phase']}] " if step["phase"] else ""
        if is_plan:
            after = f" after {', '.join(step['waits_for'])}" if step["waits_for"] else ""
            print_line(f"{phase}{step['name']} {step['target']}{after}")
        else:
            print_line(f"{phase}{step['target']}: {step['state']}{_why(step)}")
    if is_plan:
        print_line(f"{task['kind']} {task['target']}: {len(task['steps'])} steps; nothing was done")
    else:
        paused = ", paused" if task["is_paused"] else ""
        print_line(f"{task['kind']} {task['target']}: {task['state']}{paused} ({task['id']})")


def _why(step: dict[str, Any]) -> str:
    return f" ({step['message']})" if step["message"] and step["message"] != step["state"] else ""


def _follow(session: Session, task: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    if session.is_json or session.is_quiet or not sys.stderr.isatty():
        return session.client.wait(task, timeout_s, lambda seen: None)
    from rich.console import Console

    with Console(stderr=True).status(f"{task['kind']} {task['target']}") as status:

        def seen(now: dict[str, Any]) -> None:
            under_way = [s for s in now["steps"] if s["state"] == "running"] or now["steps"]
            text = ", ".join(f"{s['target']}: {s['message'] or s['state']}" for s in under_way[:3])
            status.update(f"{now['kind']} {now['target']}  {now['progress'] * 100:.0f}%  {text}")

        return session.client.wait(task, timeout_s, seen)
