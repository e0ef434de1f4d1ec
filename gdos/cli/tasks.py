"""`gdos task`: a word on a task that is under way."""

from __future__ import annotations

from typing import Annotated

import typer

from gdos.cli.client import Session, command, segment
from gdos.cli.targets import Timeout, finish

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Pause, resume or cancel a task, or wait for it.")
Task = Annotated[str, typer.Argument(help="Its id; `gdos tasks` lists them.")]


def _say(session: Session, task: str, word: str) -> None:
    finish(session, session.client.post(f"/tasks/{segment(task)}/{word}"), False, 0)


@app.command("pause")
@command
def pause(session: Session, task: Task) -> None:
    """Let what was asked for go on, and ask for nothing more until it is resumed.

    Example: gdos task pause t-3f9c2a7d10b4
    """
    _say(session, task, "pause")


@app.command("resume")
@command
def resume(session: Session, task: Task) -> None:
    """Go on with a paused task.

    Example: gdos task resume t-3f9c2a7d10b4
    """
    _say(session, task, "resume")


@app.command("cancel")
@command
def cancel(session: Session, task: Task) -> None:
    """Ask for nothing more and stop following; what is wanted stays as it is.

    Example: gdos task cancel t-3f9c2a7d10b4
    """
    _say(session, task, "cancel")


@app.command("wait")
@command
def wait(session: Session, task: Task, timeout: Timeout = 300.0) -> None:
    """Wait until a task has ended.

    Example: gdos task wait t-3f9c2a7d10b4
    """
    finish(session, session.client.get(f"/tasks/{segment(task)}"), True, timeout)
