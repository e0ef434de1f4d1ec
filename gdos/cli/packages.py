"""`gdos upload`, `gdos delete-package`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from gdos.cli.client import Session, command, read_in_pieces, segment
from gdos.cli.render import print_json, print_line, warn
from gdos.model.errors import BadInput, NotFound
from gdos.model.values import format_size


@command
def upload(session: Session, file: Annotated[Path, typer.Argument(help="The ZIP.")]) -> None:
    """Upload a package; it is checked here before a byte is sent.

    Example: gdos upload my-service-1.0.0.zip
    """
    from gdos.pack.check import check_zip

    if not file.is_file():
        raise NotFound(f"{file}: there is no such file")
    check_zip(file)
    total = file.stat().st_size
    headers = {"Content-Type": "application/zip", "Content-Length": str(total)}
    with _progress(file.name, total, session.is_json or session.is_quiet) as seen:
        body = read_in_pieces(file, seen)
        answer = session.client.request("POST", "/packages", headers=headers, body=body, timeout=600.0)
    found = json.loads(answer.data)
    for warning in found["warnings"]:
        warn(f"warning: {warning}")
    if session.is_json:
        print_json(found)
    elif not session.is_quiet:
        done = "uploaded" if answer.status == 201 else "was there already"
        print_line(f"{found['name']}:{found['version']} {done} ({format_size(total)}, SHA-256 {found['sha256'][:12]})")


@contextlib.contextmanager
def _progress(name: str, total: int, is_quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if is_quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)


@command
def delete(session: Session, package: Annotated[str, typer.Argument(help="NAME:VERSION")]) -> None:
    """Remove a version that nothing uses.

    Example: gdos delete-package web:1.0.0
    """
    name, version = split_version(package)
    session.client.call("DELETE", f"/packages/{segment(name)}/{segment(version)}")
    if session.is_json:
        print_json({"name": name, "version": version, "deleted": True})
    elif not session.is_quiet:
        print_line(f"{package} removed")


def split_version(text: str) -> tuple[str, str]:
    """'NAME:VERSION' -> both. Raises BadInput."""
    name, colon, version = text.partition(":")
    if not (name and colon and version):
        raise BadInput(f"expected NAME:VERSION, got {text!r}")
    return name, version
