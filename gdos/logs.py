"""The program's own log: lines of text or of JSON on standard error, and the one `ready` line on standard output."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, NoReturn

_formats = {"json": False}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": _at(record), "level": record.levelname.lower(), "from": record.name, "text": record.getMessage()}
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_at(record)} {record.levelname.lower():7} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up(kind: str, level: str) -> None:
    """Log to standard error as 'text' or 'json' lines from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "websocket", "websockets", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _formats["json"] = kind == "json"


def leave() -> NoReturn:
    """End this process now, with 0, when all that matters is on the disk.

    A pool thread may still wait for a client that stalls; Python would wait for that thread.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def ready(program: str, **facts: Any) -> None:
    """The line that scripts wait for: `ready master url=... pid=...`."""
    if _formats["json"]:
        line = json.dumps({"ready": program, **facts}, ensure_ascii=False)
    else:
        line = " ".join([f"ready {program}", *(f"{k}={v}" for k, v in facts.items())])
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
