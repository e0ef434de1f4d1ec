"""Packages for tests: real ZIPs around the programs of tests/apps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gdos.pack.build import build

APPS = Path(__file__).parent.parent / "apps"


def make_package(folder: Path, app: str = "sleeper", version: str = "1.0.0", **fields: Any) -> Path:
    """A ZIP of `tests/apps/<app>.py`; `fields` go into its service.json."""
    source = folder / f"{fields.get('name', app)}-{version}-source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copy(APPS / f"{app}.py", source / "app.py")
    manifest = {
        "name": app,
        "version": version,
        "entrypoint": "python3",
        "args": ["-u", "app.py"],
        "stop_timeout": 3,
        **fields,
    }
    (source / "service.json").write_text(json.dumps(manifest))
    return build(source, folder / f"{manifest['name']}-{version}.zip").path
