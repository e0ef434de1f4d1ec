"""`gdos pack init`: a folder that builds and runs as it is, to start from."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gdos.model.errors import Conflict
from gdos.model.manifest import FILE

_MANIFEST = """\
// What GDOS runs. Comments are allowed here and gone from the built package.
{{
  "name": {name},
  "version": "1.0.0",
  "description": "Says hello once a second",
  "os": "",  // linux, windows, darwin, or empty for any

  // The program: a file of this package, or a bare name that is looked up on the node's PATH.
  "entrypoint": "python3",
  "args": ["-u", "main.py"],
  "env": {{}},

  // Without a stop_entrypoint the stop signal goes to the whole process group.
  "stop_entrypoint": "",
  "stop_timeout": 10,

  // When does it count as running: tcp (host:port), http (URL), time (seconds), exec (command), log (regex), none.
  "readiness_type": "log",
  "readiness_target": "hello",
  "readiness_timeout": 30,

  // Further logs, by display name; app.log (stdout and stderr) is always there.
  "log_paths": {{}},

  "restart": "on-failure",
}}
"""
_MAIN = """\
import time

while True:
    print("hello", time.strftime("%H:%M:%S"), flush=True)
    time.sleep(1)
"""


def init(folder: Path) -> list[Path]:
    """Write the template into `folder` (made when missing). Raises Conflict when a manifest is there already."""
    manifest = folder / FILE
    if manifest.exists():
        raise Conflict(f"{manifest} is there already; nothing was changed")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name).lstrip("._-")[:64] or "my-service"
    manifest.write_text(_MANIFEST.format(name=json.dumps(name)), encoding="utf-8")
    written = [manifest]
    program = folder / "main.py"
    if not program.exists():
        program.write_text(_MAIN, encoding="utf-8")
        written.append(program)
    return written
