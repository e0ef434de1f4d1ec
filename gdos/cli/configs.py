"""`gdos config show`: every setting with its value and where it comes from."""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Any

import typer

from gdos.cli.render import field, print_json, print_table, warn
from gdos.model.errors import BadInput

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show the settings and where they come from.")


@app.callback()
def _group() -> None:
    """Show the settings and where they come from."""


@app.command()
def show(
    program: Annotated[str, typer.Argument(help="master or worker")] = "master",
    config: Annotated[str | None, typer.Option("--config", help="Configuration file.")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the settings as a start in this folder would have them.

    Example: gdos config show master --origin
    """
    if program not in ("master", "worker"):
        raise BadInput(f"expected master or worker, got {program}")
    settings = importlib.import_module(f"gdos.{program}.config")
    resolved = settings.load({}, os.environ, config).resolved
    rows: list[dict[str, Any]] = []
    for s in settings.TABLE:
        value = resolved[s.key]
        shown = "***" if s.is_secret and value else value
        rows.append({"key": s.key, "value": shown, "origin": resolved.origins[s.key], "text": s.text})
    for warning in resolved.warnings:
        warn(f"warning: {warning}")
    if is_json:
        print_json(rows)
        return
    columns = [("setting", field("key")), ("value", field("value"))]
    columns += [("origin", field("origin"))] if origin else []
    print_table(rows, [*columns, ("meaning", field("text"))], "")
