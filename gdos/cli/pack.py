"""`gdos pack`: init, check, build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gdos.cli.render import print_json, print_line, warn
from gdos.model.values import format_size

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make and check service packages.")
Folder = Annotated[Path, typer.Argument(help="The package's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(folder: Folder, is_json: Json = False) -> None:
    """Make a folder that builds and runs as it is, to start from.

    Example: gdos pack init ./my-project
    """
    from gdos.pack.init import init as make

    written = make(folder)
    if is_json:
        print_json({"folder": str(folder), "files": [str(p) for p in written]})
        return
    for path in written:
        print_line(f"wrote {path}")
    print_line(f"next: edit {folder / 'service.json'}, then `gdos pack build {folder}`")


@app.command()
def check(target: Annotated[Path, typer.Argument(help="A package's folder, or a ZIP.")], is_json: Json = False) -> None:
    """Say everything that is wrong with a folder or a ZIP, at once.

    Example: gdos pack check ./my-project
    """
    from gdos.model.errors import NotFound
    from gdos.pack.check import check_folder, check_zip

    if not target.exists():
        raise NotFound(f"{target}: there is no such file or folder")
    checked = check_folder(target) if target.is_dir() else check_zip(target)
    if is_json:
        print_json({"manifest": msgspec.to_builtins(checked.manifest), "warnings": checked.warnings})
        return
    for warning in checked.warnings:
        warn(f"warning: {warning}")
    print_line(f"{target}: {checked.manifest.name} {checked.manifest.version} is a valid package")


@app.command()
def build(
    folder: Folder,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ZIP to write.")] = None,
    is_json: Json = False,
) -> None:
    """Build the ZIP; the same input gives the same bytes.

    Example: gdos pack build ./my-project -o my-service-v1.zip
    """
    import hashlib

    from gdos.pack.build import build as make

    built = make(folder, output)
    sha256 = hashlib.sha256(built.path.read_bytes()).hexdigest()
    manifest = built.checked.manifest
    if is_json:
        facts = {"file": str(built.path), "name": manifest.name, "version": manifest.version}
        print_json({**facts, "size": built.size, "files": built.files, "sha256": sha256})
        return
    for warning in built.checked.warnings:
        warn(f"warning: {warning}")
    print_line(f"{built.path}: {manifest.name} {manifest.version}, {built.files} files, {format_size(built.size)}")
