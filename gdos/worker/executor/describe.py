"""Reasons in words that a person can act on."""

from __future__ import annotations

import signal
from pathlib import Path

from gdos.model.errors import GdosError
from gdos.model.values import Exit
from gdos.worker.probes import read_from

TAIL_LINES = 20
_TAIL_BYTES = 16 << 10


def describe_exit(exit_: Exit) -> str:
    """'exited with code 3', 'ended by SIGSEGV'."""
    if exit_.signal is not None:
        try:
            return f"ended by {signal.Signals(exit_.signal).name}"
        except ValueError:
            return f"ended by signal {exit_.signal}"
    if exit_.code is not None:
        return f"exited with code {exit_.code}"
    return "ended; its exit code is not known, since it was not started by this worker process"


def describe_error(error: Exception | None) -> str:
    """An error of a step as a sentence."""
    if isinstance(error, GdosError):
        return error.detail
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
    return f"{type(error).__name__}: {error}"


def log_tail(path: Path) -> list[str]:
    """The last lines of app.log, each cut to what a report can hold."""
    lines = read_from(path, 0, _TAIL_BYTES).splitlines()
    return [line[:500] for line in lines[-TAIL_LINES:]]
