"""What commands print: tables on a terminal, plain columns in a pipe, JSON with --json; errors on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gdos.model.errors import GdosError
from gdos.model.values import format_duration, format_size

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
STYLES = {
    "running": "green",
    "online": "green",
    "succeeded": "green",
    "completed": "green",
    "failed": "red",
    "offline": "red",
    "backoff": "yellow",
    "starting": "cyan",
    "stopping": "cyan",
    "deploying": "cyan",
    "upgrading": "cyan",
    "destroying": "magenta",
    "unknown": "dim",
    "stopped": "dim",
    "pending": "dim",
    "queued": "dim",
}


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """Stable, for scripts."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if is_terminal() else None) + "\n")


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_table(rows: Sequence[Row], columns: Sequence[Column], empty: str) -> None:
    """A rich table, or columns separated by two spaces and more in a pipe."""
    if is_terminal():
        from rich.console import Console

        Console().print(rich_table(rows, columns) if rows else empty, style=None if rows else "dim")
        return
    cells = [[name.upper() for name, _ in columns], *([get(row) or "-" for _, get in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def rich_table(rows: Iterable[Row], columns: Sequence[Column], title: str = "") -> Any:
    """The same as a renderable, for the live view."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name, _ in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = [get(row) for _, get in columns]
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    return table


def show_error(error: GdosError) -> None:
    """One sentence, then each problem of an input on a line of its own."""
    lines = [f"gdos: {error.detail}"]
    if len(error.problems) > 1:
        head = error.detail.partition(": ")[0]
        lines = [f"gdos: {head}:", *(f"  {problem}" for problem in error.problems)]
    sys.stderr.write("\n".join(lines) + "\n")


def warn(text: str) -> None:
    sys.stderr.write(f"gdos: {text}\n")


# --- cells


def field(name: str) -> Callable[[Row], str]:
    """A value as it is."""
    return lambda row: "" if row.get(name) is None else str(row[name])


def state(row: Row) -> str:
    """The state, 'unknown' while the node is not connected."""
    return "unknown" if row.get("reachable") is False else str(row["state"])


def size(name: str) -> Callable[[Row], str]:
    return lambda row: format_size(row[name]) if row.get(name) is not None else ""


def age(name: str) -> Callable[[Row], str]:
    """Since when: '3m20s'."""

    def get(row: Row) -> str:
        text = row.get(name)
        if not text:
            return ""
        seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
        return format_duration(max(seconds, 0)) if seconds >= 1 else "now"

    return get


def metric(name: str, kind: str = "number") -> Callable[[Row], str]:
    """Of the newest sample: 'percent', 'size' or 'number'."""

    def get(row: Row) -> str:
        value = (row.get("metrics") or {}).get(name)
        if value is None:
            return ""
        if kind == "percent":
            return f"{value * 100:.1f}%"
        return format_size(value) if kind == "size" else f"{value:g}"

    return get


def joined(name: str) -> Callable[[Row], str]:
    """A map or list on one line."""

    def get(row: Row) -> str:
        value = row.get(name)
        if isinstance(value, dict):
            return ",".join(f"{k}={v}" for k, v in sorted(value.items()))
        return ",".join(map(str, value or []))

    return get
