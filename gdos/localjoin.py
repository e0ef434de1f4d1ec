"""How a worker joins the master of its own machine and user without pasting: a file that only this user can read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from gdos.diskio import write_atomic


def _folder() -> Path | None:
    base = os.environ.get("XDG_STATE_HOME") or ("" if sys.platform != "win32" else os.environ.get("LOCALAPPDATA", ""))
    if base:
        return Path(base) / "gdos" / "masters"
    home = os.path.expanduser("~")
    return None if home in ("~", "/", "") else Path(home) / ".local" / "state" / "gdos" / "masters"


def offer(port: int, token: str) -> Path | None:
    """Write the token for workers beside this master. None when this user has no folder for it."""
    folder = _folder()
    if folder is None:
        return None
    path = folder / f"{port}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, json.dumps({"token": token}).encode(), mode=0o600)
    except OSError:
        return None
    return path


def is_local(master_url: str) -> bool:
    """Whether a master's address is this machine's loopback."""
    return urlsplit(master_url).hostname in ("127.0.0.1", "localhost", "::1")


def take(master_url: str) -> str | None:
    """The token of a master on this machine's loopback, if this user may read it."""
    parts = urlsplit(master_url)
    folder = _folder()
    if folder is None or not is_local(master_url):
        return None
    path = folder / f"{parts.port or (443 if parts.scheme == 'https' else 80)}.json"
    try:
        if sys.platform != "win32" and (path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077):
            return None
        return str(json.loads(path.read_bytes())["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
