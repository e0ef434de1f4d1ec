"""The commands that change what runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gdos.cli.client import Client, Session, command, is_interactive, segment
from gdos.cli.packages import split_version
from gdos.cli.render import print_json, print_line
from gdos.model.errors import BadInput, NotAllowed, NotFound

Target = Annotated[str, typer.Argument(help="INSTANCE, SYSTEM/MODULE or SYSTEM.", metavar="TARGET")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command
def deploy(
    session: Session,
    target: Annotated[str, typer.Argument(help="SYSTEM/MODULE", metavar="SYSTEM/MODULE")],
    package: Annotated[
        str | None, typer.Option("--package", "-p", help="NAME:VERSION; needed for a new module.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", help="Where; a name or an id.")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Where it fits best (the default).")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many instances.")] = 1,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="K=V, may be repeated.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Only bring it there.")] = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
) -> None:
    """Place instances of a module and start them; makes system and module where they are missing.

    Example: gdos deploy shop/web --package web:1.0.0 --count 2 --wait
    """
    if auto and node:
        raise BadInput("--auto and --node NODE exclude each other")
    system, module = _split(target)
    variables = _variables(env or [])
    _ensure_module(session.client, system, module, package)
    body = {"module": module, "system": system, "node": node or "auto", "count": count, "run": not no_start}
    task = session.client.post("/instances", {**body, "env": variables})
    _finish(session, task, wait, timeout)


def _split(target: str) -> tuple[str, str]:
    system, slash, module = target.partition("/")
    if not (system and slash and module) or "/" in module:
        raise BadInput(f"expected SYSTEM/MODULE, got {target!r}")
    return system, module


def _variables(env: list[str]) -> dict[str, str]:
    found = {}
    for text in env:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise BadInput(f"--env: expected K=V, got {text!r}")
        found[key] = value
    return found


def _ensure_module(client: Client, system: str, module: str, package: str | None) -> None:
    """The module as planned, made where it is missing. Raises BadInput when it plans something else."""
    wish = split_version(package) if package else None
    try:
        found = client.get(f"/systems/{segment(system)}/modules/{segment(module)}")
    except NotFound:
        if wish is None:
            raise BadInput(
                f"{system}/{module} is not there yet: name what it runs with --package NAME:VERSION"
            ) from None
        client.get(f"/packages/{segment(wish[0])}/{segment(wish[1])}")  # before anything is made
        _ensure_system(client, system)
        values = {"name": module, "package": wish[0], "version": wish[1]}
        client.post(f"/systems/{segment(system)}/modules", values)
        return
    if wish is None or wish == (found["package"], found["version"]):
        return
    if found["instances"]:
        has = f"{found['package']}:{found['version']}"
        raise BadInput(f"{system}/{module} runs {has}: `gdos upgrade {system}/{module} --to VERSION` changes it")
    values = {"package": wish[0], "version": wish[1]}
    client.call("PATCH", f"/systems/{segment(system)}/modules/{segment(module)}", body=values)


def _ensure_system(client: Client, system: str) -> None:
    try:
        client.get(f"/systems/{segment(system)}")
    except NotFound:
        client.post("/systems", {"name": system})


@command
def start(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Start an instance, all of SYSTEM/MODULE, or all of SYSTEM.

    Example: gdos start shop/web --wait
    """
    _finish(session, _act(session.client, target, "start"), wait, timeout)


@command
def stop(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Stop an instance, all of SYSTEM/MODULE, or all of SYSTEM.

    Example: gdos stop web-1 --wait
    """
    _finish(session, _act(session.client, target, "stop"), wait, timeout)


@command
def restart(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Restart an instance, all of SYSTEM/MODULE, or all of SYSTEM.

    Example: gdos restart shop/web --wait
    """
    _finish(session, _act(session.client, target, "restart"), wait, timeout)


@command
def upgrade(
    session: Session,
    target: Target,
    to: Annotated[str, typer.Option("--to", help="The version to go to.")],
    wait: Wait = False,
    timeout: Timeout = 300.0,
) -> None:
    """Bring a module (or one instance) to another version of its package.

    Example: gdos upgrade shop/web --to 1.1.0 --wait
    """
    _finish(session, _act(session.client, target, "upgrade", to), wait, timeout)


@command
def rollback(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Go back to the version before; nothing is downloaded.

    Example: gdos rollback shop/web --wait
    """
    _finish(session, _act(session.client, target, "rollback"), wait, timeout)


@command
def destroy(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0, yes: Yes = False) -> None:
    """Stop instances and remove them with their data. What is planned stays.

    Example: gdos destroy shop/web --wait
    """
    if not yes and is_interactive():
        sys.stderr.write(f"Destroy {target} with its data? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise NotAllowed("nothing was destroyed")
    _finish(session, _act(session.client, target, "destroy"), wait, timeout)


@command
def delete_system(session: Session, system: Annotated[str, typer.Argument(help="The system.")]) -> None:
    """Remove a system that has no instances, with its modules.

    Example: gdos delete-system shop
    """
    session.client.call("DELETE", f"/systems/{segment(system)}")
    if session.is_json:
        print_json({"name": system, "deleted": True})
    elif not session.is_quiet:
        print_line(f"{system} removed")


def _act(client: Client, target: str, action: str, version: str | None = None) -> dict[str, Any]:
    """The task of an action. A target is SYSTEM/MODULE or SYSTEM/INSTANCE, an instance, or a system, in this order."""
    body = {"action": action, **({"version": version} if version else {})}
    system, slash, rest = target.partition("/")
    paths = [f"/instances/{segment(target)}/actions"]
    if slash:
        paths.insert(0, f"/systems/{segment(system)}/modules/{segment(rest)}/actions")
        paths[-1] = f"/instances/{segment(_instance_id(client, system, rest) or target)}/actions"
    else:
        paths.append(f"/systems/{segment(target)}/actions")
    return _first_found(paths, lambda path: client.post(path, body), target)


def _instance_id(client: Client, system: str, name: str) -> str | None:
    found = [i for i in client.all("/instances", name=name) if i["system"] == system]
    return str(found[0]["id"]) if found else None


def _first_found(paths: list[str], call: Callable[[str], dict[str, Any]], target: str) -> dict[str, Any]:
    for path in paths:
        try:
            return call(path)
        except NotFound:
            continue
    raise NotFound(f"there is no instance, module or system {target}; `gdos ps` and `gdos systems` list them")


def _finish(session: Session, task: dict[str, Any], wait: bool, timeout_s: float) -> None:
    """Print the task, after it has ended when that was asked for."""
    if wait:
        task = _follow(session, task, timeout_s)
    if session.is_json:
        print_json(task)
    elif not session.is_quiet:
        for step in task["steps"]:
            print_line(f"{step['target']}: {step['state']}{_why(step)}")
        print_line(f"{task['kind']} {task['target']}: {task['state']} ({task['id']})")


def _why(step: dict[str, Any]) -> str:
    return f" ({step['message']})" if step["message"] and step["message"] != step["state"] else ""


def _follow(session: Session, task: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    if session.is_json or session.is_quiet or not sys.stderr.isatty():
        return session.client.wait(task, timeout_s, lambda seen: None)
    from rich.console import Console

    with Console(stderr=True).status(f"{task['kind']} {task['target']}") as status:

        def seen(now: dict[str, Any]) -> None:
            text = ", ".join(f"{s['target']}: {s['message'] or s['state']}" for s in now["steps"][:3])
            status.update(f"{now['kind']} {now['target']}  {now['progress'] * 100:.0f}%  {text}")

        return session.client.wait(task, timeout_s, seen)
