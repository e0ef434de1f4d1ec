"""`gdos apply`, `gdos plan`, `gdos export`: whole systems as a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gdos import yamltext
from gdos.cli.client import Session, command, segment
from gdos.cli.render import print_json, print_line
from gdos.cli.targets import Timeout, Wait, finish
from gdos.model.errors import BadInput, Problem
from gdos.model.systemfile import read

File = Annotated[str, typer.Option("--file", "-f", help="The system file (YAML or JSON); - for standard input.")]
Prune = Annotated[bool, typer.Option("--prune", help="Destroy and remove what the file does not name.")]
SIGNS = {"added": "+", "removed": "-", "changed": "~", "restart": "!"}


def load(name: str) -> dict[str, Any]:
    """The file as data, checked, with secrets from the environment filled in. Raises BadInput, BadConfig."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{name}: cannot be read: {e}") from e
    raw = yamltext.load(name, text)
    if isinstance(raw, dict):
        problems: list[Problem] = []
        _fill(raw.get("secrets"), "secrets", problems)
        modules = raw.get("modules")
        for key, module in modules.items() if isinstance(modules, dict) else ():
            if isinstance(module, dict):
                _fill(module.get("secrets"), f"modules.{key}.secrets", problems)
        if problems:
            raise BadInput(f"{name}: " + "; ".join(map(str, problems)), problems)
    read(raw, name)
    return dict(raw)


def _fill(secrets: Any, at: str, problems: list[Problem]) -> None:
    """{env: NAME} is taken from this command's environment, {file: PATH} from a file of this machine."""
    if not isinstance(secrets, dict):
        return
    for name, wish in secrets.items():
        if not isinstance(wish, dict) or len(wish) != 1:
            continue
        ((kind, where),) = wish.items()
        try:
            if kind == "env":
                secrets[name] = os.environ[str(where)]
            elif kind == "file":
                secrets[name] = Path(str(where)).read_text(encoding="utf-8").rstrip("\n")
        except (KeyError, OSError, UnicodeDecodeError) as e:
            why = "is not set here" if isinstance(e, KeyError) else str(e)
            problems.append(Problem(f"{at}.{name}", f"{kind} {where}: {why}"))


@command
def plan(session: Session, file: File, prune: Prune = False) -> None:
    """Show what `gdos apply` would change: the exact difference, then the steps. Nothing is done.

    Example: gdos plan -f shop.yaml
    """
    done = session.client.post("/apply", {"file": load(file), "prune": prune, "dry_run": True})
    if session.is_json:
        print_json(done)
        return
    _print_changes(done)
    if done["task"]:
        finish(session, done["task"], False, 0)


@command
def apply(session: Session, file: File, prune: Prune = False, wait: Wait = False, timeout: Timeout = 900.0) -> None:
    """Make a system as its file says, in start order, as one task.

    Example: gdos apply -f shop.yaml --wait
    """
    done = session.client.post("/apply", {"file": load(file), "prune": prune})
    if not session.is_json and not session.is_quiet:
        _print_changes(done)
    if done["task"]:
        finish(session, done["task"], wait, timeout)
    elif session.is_json:
        print_json(done)


def _print_changes(done: dict[str, Any]) -> None:
    if not done["changes"]:
        print_line(f"{done['system']}: as the file says, nothing to change")
    for c in done["changes"]:
        line = f"{SIGNS[c['kind']]} {c['path']}"
        if c["kind"] == "changed":
            line += f": {_show(c['before'])} -> {_show(c['after'])}"
        elif c["after"] is not None or c["before"] is not None:
            line += f": {_show(c['after'] if c['after'] is not None else c['before'])}"
        print_line(line)


def _show(value: Any) -> str:
    if value is None:
        return "(not shown)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@command
def export(
    session: Session,
    system: Annotated[str, typer.Argument(help="The system.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where to; - for standard output.")] = "-",
) -> None:
    """Write a system as its file; secrets are marked to be kept, they are not in it.

    Example: gdos export shop -o shop.yaml
    """
    found = session.client.get(f"/systems/{segment(system)}/export")
    if session.is_json:
        print_json(found)
        return
    text = yamltext.dump(found)
    if output == "-":
        sys.stdout.write(text)
    else:
        Path(output).write_text(text, encoding="utf-8")
        print_line(f"{system} written to {output}")
