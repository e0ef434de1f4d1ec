"""Build a package: sorted entries, fixed times, comments gone from service.json; the same input, the same bytes."""

from __future__ import annotations

import json
import os
import stat
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from gdos.model import jsonc
from gdos.model.errors import BadPackage
from gdos.model.manifest import FILE, Checked
from gdos.pack.check import check_folder, check_zip, entrypoint_in

_TIME = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {".git", ".svn", ".hg", "__pycache__", ".DS_Store", "Thumbs.db", ".venv"}
_UNIX = 3


@dataclass(frozen=True, slots=True)
class Built:
    path: Path
    size: int
    files: int
    checked: Checked


def build(folder: Path, output: Path | None = None) -> Built:
    """`folder` as a ZIP; the default name is `<name>-<version>.zip` in the current folder.

    Raises BadPackage with everything that is wrong; nothing is left behind then.
    """
    checked = check_folder(folder)
    manifest = checked.manifest
    target = output or Path(f"{manifest.name}-{manifest.version}.zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    entry = entrypoint_in(manifest, lambda name: (folder / name).is_file())
    skip = {target.resolve(), temporary.resolve()}
    try:
        count = _write(folder, temporary, entry, skip)
        check_zip(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return Built(target, target.stat().st_size, count, checked)


def _write(folder: Path, target: Path, entry: str | None, skip: set[Path]) -> int:
    names = sorted(_files(folder, skip))
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system = _UNIX
            path = folder / name
            if path.is_symlink():
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, _link_target(folder, path))
                continue
            is_program = name == entry or (sys.platform != "win32" and os.access(path, os.X_OK))
            info.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            if name == FILE:
                archive.writestr(info, _plain_manifest(path))
                continue
            info.file_size = path.stat().st_size
            with open(path, "rb") as source, archive.open(info, "w") as member:
                while piece := source.read(1 << 20):
                    member.write(piece)
    return len(names)


def _files(folder: Path, skip: set[Path]) -> list[str]:
    found = []
    for root, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and name not in linked)
        for name in files + linked:
            path = Path(root) / name
            if name not in _LEFT_OUT and not name.endswith((".pyc", ".part")) and path.resolve() not in skip:
                found.append(path.relative_to(folder).as_posix())
    return found


def _link_target(folder: Path, path: Path) -> str:
    target = os.readlink(path)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadPackage(f"{path}: is a link that leaves the package ({target}); copy the file instead")
    return target


def _plain_manifest(path: Path) -> bytes:
    data = jsonc.loads(path.read_bytes(), str(path))
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()
