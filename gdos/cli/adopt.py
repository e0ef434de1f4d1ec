"""`gdos candidates`, `gdos adopt`, `gdos import`: bring what runs already under care."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gdos import yamltext
from gdos.cli.client import Session, command, segment
from gdos.cli.render import Column, age, field, joined, print_json, print_line, print_table, warn
from gdos.cli.targets import Timeout, Wait, finish, pairs, split
from gdos.model import imports
from gdos.model.errors import BadInput

COLUMNS: list[Column] = [
    ("pid", field("pid")),
    ("name", field("name")),
    ("user", field("user")),
    ("ports", joined("ports")),
    ("unit", field("unit")),
    ("since", age("started_at")),
    ("instance", field("instance")),
    ("command", lambda r: r["command"][:100]),
]
Node = Annotated[str, typer.Option("--node", help="On which node.")]


@command
def candidates(
    session: Session,
    node: Annotated[str, typer.Argument(help="The node.")],
    search: Annotated[str | None, typer.Option("--search", "-s", help="Only what contains this.")] = None,
) -> None:
    """What runs on a node and could be adopted.

    Example: gdos candidates db-1 --search postgres
    """
    found = session.client.get(f"/nodes/{segment(node)}/candidates")
    if search:
        found = [c for c in found if search.lower() in str(c).lower()]
    print_json(found) if session.is_json else print_table(found, COLUMNS, "Nothing.")


@command
def adopt(
    session: Session,
    target: Annotated[str, typer.Argument(help="SYSTEM/MODULE to be", metavar="SYSTEM/MODULE")],
    node: Node,
    name: Annotated[str | None, typer.Option("--name", help="Found by its program's name ...")] = None,
    args: Annotated[str | None, typer.Option("--args", help="... or by its command line (regex) ...")] = None,
    pid_file: Annotated[str | None, typer.Option("--pid-file", help="... or by a PID file ...")] = None,
    port: Annotated[int | None, typer.Option("--port", help="... or by a port it listens on ...")] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="... or by a systemd unit.")] = None,
    start: Annotated[str | None, typer.Option("--start", help="Command that starts it; none: only watched.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", help="Command that stops it; none: a signal.")] = None,
    folder: Annotated[str | None, typer.Option("--dir", help="Folder of these commands.")] = None,
    log: Annotated[list[str] | None, typer.Option("--log", help="NAME=PATH of a log, may be repeated.")] = None,
    managed: Annotated[bool, typer.Option("--managed", help="With --unit: start and stop it by systemctl.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Only say what would be adopted.")] = False,
    wait: Wait = False,
    timeout: Timeout = 60.0,
) -> None:
    """Bring a service that runs already under care: watched, or with --start managed too. It is left as it is.

    Example: gdos adopt infra/postgres --node db-1 --port 5432 --test
    """
    external = _external(name, args, pid_file, port, unit)
    if managed and unit:
        start, stop = f"systemctl start {unit}", f"systemctl stop {unit}"
    external |= _commands(start, stop)
    if folder:
        external["external_work_dir"] = folder
    if log:
        external["log_paths"] = pairs(log, "--log")
    if test:
        found = session.client.post(f"/nodes/{segment(node)}/matches", {"external": external})
        if session.is_json:
            print_json(found)
        else:
            print_line(found["verdict"])
            print_table(found["found"], COLUMNS, "")
        return
    system, module = split(target)
    body = {"system": system, "module": module, "node": node, "external": external}
    finish(session, session.client.post("/adoptions", body), wait, timeout)


def _external(
    name: str | None, args: str | None, pid_file: str | None, port: int | None, unit: str | None
) -> dict[str, Any]:
    ways = [w for w in ("match" if name or args else "", "pidfile" if pid_file else "", "port" if port else "") if w]
    ways += ["systemd"] if unit else []
    if pid_file and name:  # the name is a second check of what the file says
        ways.remove("match")
    if len(ways) != 1:
        raise BadInput("say how to find it, in one way: --name and --args, --pid-file, --port or --unit")
    fields = {"process_name": name, "match_args": args, "pid_file": pid_file, "port": port, "unit": unit}
    return {"pid_strategy": ways[0], **{k: v for k, v in fields.items() if v}}


def _commands(start: str | None, stop: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prefix, text in (("", start), ("stop_", stop)):
        if text:
            words = shlex.split(text)
            found |= {f"{prefix}entrypoint": words[0], f"{prefix}args": words[1:]}
    return found


@command
def import_(
    session: Session,
    files: Annotated[list[str], typer.Argument(help="supervisor's ini, PM2's dump or a systemd unit.")],
    system: Annotated[str, typer.Option("--system", help="The system to be.")],
    node: Node,
    take_over: Annotated[bool, typer.Option("--take-over", help="GDOS starts them itself from now on.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="Where to; - for standard output.")] = "-",
) -> None:
    """Write the services of another supervisor as a system file, for `gdos plan -f` and `gdos apply -f`.

    By default they stay where they are: found, watched, started and stopped through their own supervisor.

    Example: gdos import /etc/supervisor/conf.d/shop.conf --system shop --node web-1 -o shop.yaml
    """
    modules: dict[str, Any] = {}
    for name in files:
        try:
            text = Path(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"{name}: cannot be read: {e}") from e
        found = imports.read(name, text, take_over=take_over)
        for warning in found.warnings:
            warn(warning)
        twice = sorted(modules.keys() & found.modules.keys())
        if twice:
            raise BadInput(f"{name}: {twice[0]} was in an earlier file already")
        modules |= {key: {"external": external, "nodes": [node]} for key, external in found.modules.items()}
    if take_over:
        warn("stop them in their own supervisor before you apply this: otherwise each runs twice")
    file = {"system": system, "modules": modules}
    if session.is_json:
        print_json(file)
    elif output == "-":
        sys.stdout.write(yamltext.dump(file))
    else:
        Path(output).write_text(yamltext.dump(file), encoding="utf-8")
        print_line(f"{len(modules)} services written to {output}")
