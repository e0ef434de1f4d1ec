"""Is this folder or ZIP a package that can run? All problems at once, the same for `gdos pack`, uploads and workers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from gdos.model.errors import BadPackage, Problem, raise_if
from gdos.model.manifest import FILE, Checked, Manifest, read
from gdos.pack.zipguard import Archive, is_folder

_WINDOWS_ENDINGS = ("", ".exe", ".bat", ".cmd")


def check_zip(file: Path | IO[bytes]) -> Checked:
    """The manifest of a ZIP. Raises BadPackage with all that is wrong."""
    with Archive(file) as archive:
        return check_archive(archive)


def check_archive(archive: Archive) -> Checked:
    """The same for an archive that is open already."""
    names = archive.names
    if FILE not in names:
        raise BadPackage(_missing(sorted(n for n in names if n.rsplit("/", 1)[-1] == FILE)))
    checked = read(archive.read(FILE))
    files = {name for name, info in names.items() if not is_folder(info)}
    raise_if(_file_problems(checked.manifest, files.__contains__, files), FILE, BadPackage)
    return checked


def check_folder(folder: Path) -> Checked:
    """The manifest of a folder that is to become a package. Raises BadPackage with all that is wrong."""
    if not folder.is_dir():
        raise BadPackage(f"{folder}: is not a folder")
    path = folder / FILE
    if not path.is_file():
        raise BadPackage(f"{folder}: has no {FILE}; `gdos pack init {folder}` makes one")
    checked = read(path.read_bytes(), str(path))
    found = _file_problems(checked.manifest, lambda name: (folder / name).is_file(), ())
    raise_if(found, str(path), BadPackage)
    return checked


def _missing(elsewhere: list[str]) -> str:
    if elsewhere:
        wrap = elsewhere[0].rsplit("/", 1)[0]
        return (
            f"{FILE} must be at the root of the ZIP, found {elsewhere[0]}: pack what is in {wrap}/, not {wrap}/ itself"
        )
    return f"{FILE} is missing at the root of the ZIP; `gdos pack init` makes one"


def entrypoint_in(manifest: Manifest, has: Callable[[str], bool]) -> str | None:
    """The name in the package that the entrypoint means, or None when it is a program of the node (`python3`)."""
    name = manifest.entrypoint.removeprefix("./")
    endings = _WINDOWS_ENDINGS if manifest.os in ("", "windows") else ("",)
    for ending in endings:
        if has(name + ending):
            return name + ending
    return None


def _file_problems(manifest: Manifest, has: Callable[[str], bool], files: Collection[str]) -> list[Problem]:
    found = []
    if not manifest.is_external:
        for field, name in (("entrypoint", manifest.entrypoint), ("stop_entrypoint", manifest.stop_entrypoint)):
            if name and "/" in name and entrypoint_in(_as_entry(manifest, name), has) is None:
                found.append(Problem(field, f"{name} is not in the package{_near(name, files)}"))
    for i, name in enumerate(manifest.templates):
        if not has(name.removeprefix("./")):
            found.append(Problem(f"templates[{i}]", f"{name} is not in the package"))
    return found


def _as_entry(manifest: Manifest, name: str) -> Manifest:
    return Manifest(name=manifest.name, version=manifest.version, os=manifest.os, entrypoint=name)


def _near(name: str, files: Collection[str]) -> str:
    last = name.rsplit("/", 1)[-1]
    same = sorted(f for f in files if f.rsplit("/", 1)[-1] == last)
    return f"; did you mean {same[0]}?" if same else ""
