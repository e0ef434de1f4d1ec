"""Files of a package in which ${NAME} is filled in at each start; the originals are kept beside the release's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gdos.diskio import write_atomic
from gdos.model.errors import BadInput, GdosError
from gdos.model.manifest import Manifest
from gdos.model.placeholders import fill

ORIGINALS = ".gdos-templates"
SIZE_MAX = 4 << 20


def render(manifest: Manifest, release: Path, values: Mapping[str, str]) -> None:
    """Write every template anew from its original. Raises BadInput naming file and unknown name; nothing is written."""
    made = [(name, *_render_one(name, release, values)) for name in manifest.templates]
    for name, text, mode in made:
        try:
            write_atomic(release / name, text.encode(), mode=mode, is_durable=False)
        except OSError as e:
            raise GdosError(f"{name}: cannot be written ({e.strerror})") from e


def _render_one(name: str, release: Path, values: Mapping[str, str]) -> tuple[str, int]:
    target, original = release / name, release / ORIGINALS / name
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(release)):
        raise BadInput(f"{name}: leads out of the package")
    try:
        if not original.exists():
            original.parent.mkdir(parents=True, exist_ok=True)
            part = original.with_name(original.name + ".part")
            shutil.copy2(target, part)
            os.replace(part, original)
        if original.stat().st_size > SIZE_MAX:
            raise BadInput(f"{name}: is larger than the {SIZE_MAX >> 20} MiB that a template may have")
        text = original.read_text(encoding="utf-8")
        mode = original.stat().st_mode & 0o777
    except UnicodeDecodeError as e:
        raise BadInput(f"{name}: is not UTF-8 text, so it cannot be a template") from e
    except OSError as e:
        raise GdosError(f"{name}: {e.strerror}") from e
    return fill(text, values, name), mode
