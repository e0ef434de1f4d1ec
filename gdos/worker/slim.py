"""The entry of a worker's own process, after the command line has handed over."""

from __future__ import annotations

import json
import os
import sys

from gdos.logs import leave
from gdos.model.errors import GdosError
from gdos.worker import config
from gdos.worker.app import serve


def main() -> int:
    """Run the worker that GDOS_WORKER_START describes; returns the exit code."""
    start = json.loads(os.environ.pop("GDOS_WORKER_START"))
    try:
        serve(config.load(start["flags"], os.environ, start["config"]))
    except GdosError as e:
        sys.stderr.write(f"gdos: {e.detail}\n")
        return e.exit_code
    return leave()
