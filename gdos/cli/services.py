"""The commands that change what runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gdos.cli.client import Client, Session, command, is_interactive, segment
from gdos.cli.packages import split_version
from gdos.cli.render import print_json, print_line
from gdos.cli.targets import DryRun, Target, Timeout, Wait, Yes, act, finish, pairs, split
from gdos.model.errors import BadInput, NotAllowed, NotFound


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
    label: Annotated[list[str] | None, typer.Option("--label", help="K=V that the node must have.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Only bring it there.")] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
) -> None:
    """Place instances of a module and start them; makes system and module where they are missing.

    Example: gdos deploy shop/web --package web:1.0.0 --count 2 --wait
    """
    if auto and node:
        raise BadInput("--auto and --node NODE exclude each other")
    system, module = split(target)
    variables = pairs(env or [], "--env")
    labels = pairs(label or [], "--label")
    if dry_run:
        _refuse_changes(session.client, system, module, package, labels)
    else:
        _ensure_module(session.client, system, module, package, labels)
    body = {"module": module, "system": system, "node": node or "auto", "count": count, "run": not no_start}
    task = session.client.post("/instances", {**body, "env": variables, "dry_run": dry_run})
    if task["note"] and session.is_verbose:
        sys.stderr.write(task["note"] + "\n")
    finish(session, task, wait, timeout)


def _ensure_module(client: Client, system: str, module: str, package: str | None, labels: dict[str, str]) -> None:
    """The module as planned, made where it is missing. Raises BadInput when it plans something else."""
    wish = split_version(package) if package else None
    more: dict[str, Any] = {"placement": {"labels": labels}} if labels else {}
    try:
        found = client.get(f"/systems/{segment(system)}/modules/{segment(module)}")
    except NotFound:
        if wish is None:
            raise BadInput(
                f"{system}/{module} is not there yet: name what it runs with --package NAME:VERSION"
            ) from None
        client.get(f"/packages/{segment(wish[0])}/{segment(wish[1])}")  # before anything is made
        ensure_system(client, system)
        values = {"name": module, "package": wish[0], "version": wish[1], **more}
        client.post(f"/systems/{segment(system)}/modules", values)
        return
    if wish is not None and wish != (found["package"], found["version"]):
        if found["instances"]:
            has = f"{found['package']}:{found['version']}"
            raise BadInput(f"{system}/{module} runs {has}: `gdos upgrade {system}/{module} --to VERSION` changes it")
        more |= {"package": wish[0], "version": wish[1]}
    if labels:
        more["placement"] = {**found["placement"], "labels": labels}
    if more:
        client.call("PATCH", f"/systems/{segment(system)}/modules/{segment(module)}", body=more)


def _refuse_changes(client: Client, system: str, module: str, package: str | None, labels: dict[str, str]) -> None:
    """A dry run plans nothing either: what it asks for must be planned already. Raises NotFound, BadInput."""
    found = client.get(f"/systems/{segment(system)}/modules/{segment(module)}")
    same = package is None or split_version(package) == (found["package"], found["version"])
    if not same or (labels and labels != found["placement"].get("labels", {})):
        said = f"{system}/{module} plans {found['package']}:{found['version']}; a dry run does not change that"
        raise BadInput(f"{said}: leave --package and --label out, or use `gdos plan -f FILE`")


def ensure_system(client: Client, system: str) -> None:
    """Made where it is missing."""
    try:
        client.get(f"/systems/{segment(system)}")
    except NotFound:
        client.post("/systems", {"name": system})


@command
def start(
    session: Session, target: Target, dry_run: DryRun = False, wait: Wait = False, timeout: Timeout = 300.0
) -> None:
    """Start an instance, all of SYSTEM/MODULE, or all of SYSTEM in its start order.

    Example: gdos start shop --wait
    """
    finish(session, act(session.client, target, "start", dry_run=dry_run), wait, timeout)


@command
def run(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Run a job, or a schedule out of its time: once, now.

    Example: gdos run shop/backup --wait
    """
    finish(session, act(session.client, target, "run"), wait, timeout)


@command
def stop(
    session: Session, target: Target, dry_run: DryRun = False, wait: Wait = False, timeout: Timeout = 300.0
) -> None:
    """Stop an instance, all of SYSTEM/MODULE, or all of SYSTEM in the reverse of its start order.

    Example: gdos stop web-1 --wait
    """
    finish(session, act(session.client, target, "stop", dry_run=dry_run), wait, timeout)


@command
def restart(
    session: Session, target: Target, dry_run: DryRun = False, wait: Wait = False, timeout: Timeout = 300.0
) -> None:
    """Restart an instance, all of SYSTEM/MODULE, or all of SYSTEM (stopped in reverse order, then started in order).

    Example: gdos restart shop/web --wait
    """
    finish(session, act(session.client, target, "restart", dry_run=dry_run), wait, timeout)


@command
def upgrade(
    session: Session,
    target: Target,
    to: Annotated[str, typer.Option("--to", help="The version to go to.")],
    batch: Annotated[str | None, typer.Option("--batch", help="How many at a time: 1, 25% or all.")] = None,
    canary: Annotated[int | None, typer.Option("--canary", min=0, help="How many go first, alone.")] = None,
    manual: Annotated[bool, typer.Option("--manual", help="Pause after the canary, until `gdos task resume`.")] = False,
    min_healthy: Annotated[float | None, typer.Option("--min-healthy", help="Seconds to stay healthy.")] = None,
    on_failure: Annotated[str | None, typer.Option("--on-failure", help="rollback or stop.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not bring it to all nodes first.")] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 900.0,
) -> None:
    """Bring a module (or one instance, or a system) to another version: checked on all nodes, then in batches.

    What fails is brought back by itself, with all that this upgrade has touched. Options that are not given are as
    the module says.

    Example: gdos upgrade shop/web --to 1.1.0 --canary 1 --batch 25% --wait
    """
    given = {"batch": batch, "canary": canary, "min_healthy": min_healthy, "on_failure": on_failure}
    strategy: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    strategy |= ({"promote": "manual"} if manual else {}) | ({"check": False} if no_check else {})
    if strategy:
        strategy = {**_planned_strategy(session.client, target), **strategy}
    task = act(session.client, target, "upgrade", version=to, strategy=strategy or None, dry_run=dry_run)
    finish(session, task, wait, timeout)


def _planned_strategy(client: Client, target: str) -> dict[str, Any]:
    """What the module says; an instance or a system has none of its own."""
    system, slash, module = target.partition("/")
    if not slash:
        return {}
    try:
        return dict(client.get(f"/systems/{segment(system)}/modules/{segment(module)}")["strategy"])
    except NotFound:
        return {}


@command
def rollback(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0) -> None:
    """Go back to the version before; nothing is downloaded.

    Example: gdos rollback shop/web --wait
    """
    finish(session, act(session.client, target, "rollback"), wait, timeout)


@command
def destroy(session: Session, target: Target, wait: Wait = False, timeout: Timeout = 300.0, yes: Yes = False) -> None:
    """Stop instances and remove them with their data. What is planned stays; what was adopted runs on.

    Example: gdos destroy shop/web --wait
    """
    if not yes and is_interactive():
        sys.stderr.write(f"Destroy {target} with its data? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise NotAllowed("nothing was destroyed")
    finish(session, act(session.client, target, "destroy"), wait, timeout)


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
