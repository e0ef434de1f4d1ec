"""`gdos logs`: the end of a log, or all that comes, through rotation."""

from __future__ import annotations

import re
import sys
import time
from typing import Annotated, Any

import typer

from gdos.cli.client import Session, command, segment
from gdos.cli.render import age, field, print_json, print_table, size
from gdos.model.errors import BadInput, NotFound, Unavailable, Unreachable

AGAIN_S = 1.0


@command
def logs(
    session: Session,
    instance: Annotated[str, typer.Argument(help="The instance.")],
    name: Annotated[str, typer.Option("--file", help="Which log; `--files` lists them.")] = "app.log",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="Lines from the end.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    grep: Annotated[str | None, typer.Option("--grep", help="Only lines that match this regular expression.")] = None,
    files: Annotated[bool, typer.Option("--files", help="List the logs there are.")] = False,
) -> None:
    """Show the end of an instance's log, and follow it.

    Example: gdos logs web-1 -f --grep ERROR
    """
    path = f"/instances/{segment(_one(session, instance))}/logs"
    if files:
        found = session.client.get(path)
        columns = [("log", field("name")), ("size", size("size")), ("changed", age("modified_at"))]
        print_json(found) if session.is_json else print_table(found, columns, "No log yet.")
        return
    try:
        pattern = re.compile(grep) if grep else None
    except re.error as e:
        raise BadInput(f"--grep: not a regular expression: {e}") from e
    printer = _Printer(pattern, session.is_json)
    path += f"/{segment(name)}"
    answer = session.client.request("GET", path, query={"tail": lines} if lines else {"offset": 2**62})
    printer.put(answer.data)
    if follow:
        _follow(session, path, answer.headers, printer)
    printer.end()


def _one(session: Session, instance: str) -> str:
    """The id behind 'system/name'; anything else the master resolves."""
    system, slash, name = instance.partition("/")
    if not slash:
        return instance
    found = [i for i in session.client.all("/instances", name=name) if i["system"] == system]
    if not found:
        raise NotFound(f"there is no instance {instance}; `gdos ps` lists them")
    return str(found[0]["id"])


def _follow(session: Session, path: str, headers: Any, printer: _Printer) -> None:
    """From where the first answer ended. Another file under the name is read from its beginning."""
    offset, file, said = int(headers["X-Log-Next"]), headers["X-Log-File"], ""
    while True:
        try:
            answer = session.client.request("GET", path, query={"offset": offset, "wait": 10})
        except (Unreachable, Unavailable) as e:
            if e.detail != said:
                sys.stderr.write(f"gdos: {e.detail}; waiting\n")
            said = e.detail
            time.sleep(AGAIN_S)
            continue
        said = ""
        if answer.headers["X-Log-File"] != file or int(answer.headers["X-Log-Size"]) < offset:
            file, offset = answer.headers["X-Log-File"], 0
            continue
        printer.put(answer.data)
        offset = int(answer.headers["X-Log-Next"])


class _Printer:
    """Whole lines out, the rest kept until it is whole; as JSON one object a line."""

    def __init__(self, pattern: re.Pattern[str] | None, is_json: bool) -> None:
        self._pattern = pattern
        self._is_json = is_json
        self._rest = b""

    def put(self, data: bytes) -> None:
        if self._pattern is None and not self._is_json:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._line(line)

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)

    def _line(self, raw: bytes) -> None:
        text = raw.decode(errors="replace")
        if self._pattern is not None and not self._pattern.search(text):
            return
        if self._is_json:
            print_json({"line": text})
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
