"""Read a ZIP that a stranger made: what is refused, and an extraction that cannot leave its folder.

`zipfile.extractall` renames hostile names instead of refusing them, drops mode bits and trusts the sizes in the
directory; here everything is checked before a byte is written, and counted while it is.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gdos.model.errors import BadPackage, GdosError, Problem, raise_if

_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$", re.IGNORECASE)
_UTF8_FLAG = 0x800
_ENCRYPTED_FLAG = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PIECE = 1 << 20
_LINK_MAX = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    entries: int = 100_000
    total_bytes: int = 32 << 30
    ratio: int = 200  # of a whole archive above `ratio_from` bytes
    ratio_from: int = 16 << 20
    name_bytes: int = 1024
    problems: int = 20  # said at once


class Cancelled(GdosError):
    code, title = "cancelled", "Cancelled"


class Archive:
    """An opened ZIP whose directory has passed every check. Use as a context manager.

    Raises BadPackage listing the problems; `names` maps the checked names to their entries.
    """

    def __init__(self, file: str | Path | IO[bytes], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, UnicodeDecodeError) as e:
            raise BadPackage(f"not a ZIP file that can be read: {e}") from e
        try:
            self.names = self._checked()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, limit: int = 1 << 20) -> bytes:
        """A small member whole. Raises BadPackage when it is missing, damaged or larger than `limit` bytes."""
        if name not in self.names:
            raise BadPackage(f"{name}: is not in the package")
        with self._open(self.names[name]) as member:
            data = self._take(member, limit + 1, name)
        if len(data) > limit:
            raise BadPackage(f"{name}: larger than {limit} bytes")
        return data

    def extract(self, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Unpack into the new folder `target`; `check` is called between pieces and may raise to stop it.

        Raises BadPackage for damaged members, OSError for a failing disk. What was written stays for the caller to
        remove: extraction goes to a temporary folder that becomes visible by a rename.
        """
        target.mkdir(parents=True)
        written = 0
        links: list[tuple[str, zipfile.ZipInfo]] = []
        for name, info in self.names.items():
            path = target / name
            if is_folder(info):
                path.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(info.external_attr >> 16):
                links.append((name, info))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                written = self._write(info, path, written, check)
        for name, info in links:
            self._link(name, info, target)

    def _write(self, info: zipfile.ZipInfo, path: Path, written: int, check: Callable[[], None]) -> int:
        try:
            with self._open(info) as member, open(path, "xb") as out:
                while piece := self._take(member, _PIECE, info.filename):
                    check()
                    written += len(piece)
                    if written > self.limits.total_bytes:
                        raise BadPackage(f"unpacks to more than {self.limits.total_bytes} bytes")
                    out.write(piece)
        except FileExistsError as e:
            raise BadPackage(f"{info.filename}: the same file stands there twice") from e
        mode = (info.external_attr >> 16) & 0o777
        if mode and sys.platform != "win32":
            path.chmod((mode | 0o600) & 0o755)
        return written

    def _link(self, name: str, info: zipfile.ZipInfo, target: Path) -> None:
        """Links come last, so that no file is ever written through one."""
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(info) as member:
            to = self._take(member, _LINK_MAX + 1, name).decode("utf-8", "strict")
        os.symlink(to, path)
        root = os.path.realpath(target)
        if not os.path.realpath(path).startswith(root + os.sep):
            path.unlink()
            raise BadPackage(f"{name}: a link that leaves the package ({to})")

    def _open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        try:
            return self._zip.open(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as e:
            raise BadPackage(f"{info.filename}: damaged: {e}") from e

    @staticmethod
    def _take(member: IO[bytes], count: int, name: str) -> bytes:
        try:
            return member.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError) as e:
            raise BadPackage(f"{name}: damaged: {e}") from e

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        """The directory under its right names. Raises BadPackage with everything that is wrong with it."""
        infos = self._zip.infolist()
        if len(infos) > self.limits.entries:
            raise BadPackage(f"holds {len(infos)} entries, at most {self.limits.entries} are allowed")
        found: list[Problem] = []
        names: dict[str, zipfile.ZipInfo] = {}
        seen: dict[str, str] = {}
        for info in infos:
            name = _true_name(info).rstrip("/") if is_folder(info) else _true_name(info)
            message = _name_problem(name, self.limits) or _entry_problem(info)
            folded = unicodedata.normalize("NFC", name).casefold()
            if not message and folded in seen:
                other = seen[folded]
                message = "stands there twice" if other == name else f"differs from {other} only in case or accents"
            if message:
                found.append(Problem(name[:200], message))
            seen[folded] = name
            names[name] = info
        found += self._size_problems(infos) + _nesting_problems(names)
        more = len(found) - self.limits.problems
        if more > 0:
            found = [*found[: self.limits.problems], Problem("", f"and {more} more")]
        raise_if(found, "the ZIP is refused", BadPackage)
        return names

    def _size_problems(self, infos: list[zipfile.ZipInfo]) -> list[Problem]:
        total = sum(i.file_size for i in infos)
        packed = max(sum(i.compress_size for i in infos), 1)
        if total > self.limits.total_bytes:
            return [Problem("", f"unpacks to {total} bytes, at most {self.limits.total_bytes} are allowed")]
        if total > self.limits.ratio_from and total / packed > self.limits.ratio:
            said = f"unpacks to {total // packed} times its size, at most {self.limits.ratio} times are allowed"
            return [Problem("", said)]
        spans = sorted((i.header_offset, i.header_offset + i.compress_size, i.filename) for i in infos)
        for (_, end, first), (start, _, second) in zip(spans, spans[1:], strict=False):
            if start < end:
                return [Problem(second, f"overlaps {first}: a bomb or a damaged file")]
        return []


def is_folder(info: zipfile.ZipInfo) -> bool:
    """zipfile's own question fails for an entry without a name."""
    return info.filename.endswith("/")


def _nesting_problems(names: dict[str, zipfile.ZipInfo]) -> list[Problem]:
    """No entry may lie below another entry that is a file or a link."""
    files = {unicodedata.normalize("NFC", n).casefold() for n, info in names.items() if not is_folder(info)}
    found = []
    for name in names:
        parts = unicodedata.normalize("NFC", name).casefold().split("/")
        if any("/".join(parts[:i]) in files for i in range(1, len(parts))):
            found.append(Problem(name, "lies below an entry that is a file or a link"))
    return found


def _true_name(info: zipfile.ZipInfo) -> str:
    """Names without the UTF-8 flag are bytes that zipfile read as CP437: try UTF-8, then GBK, then leave it."""
    if info.flag_bits & _UTF8_FLAG or info.orig_filename.isascii():
        return info.orig_filename
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return info.orig_filename
    for encoding in ("utf-8", "gbk"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.orig_filename


def _name_problem(name: str, limits: Limits) -> str:
    if not name or len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes:
        return f"a name must have from 1 to {limits.name_bytes} bytes"
    if any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        return "a name may not hold control characters"
    if name.startswith("/") or "\\" in name or re.match(r"^[A-Za-z]:", name):
        return "must be a relative path with /, without drive letters and backslashes"
    parts = name.split("/")
    if ".." in parts or "." in parts or "" in parts:
        return "may not hold '..', '.' or empty parts"
    for part in parts:
        if _DEVICES.match(part) or part.endswith((".", " ")) or ":" in part:
            return f"{part!r} cannot be a file's name on every system"
    return ""


def _entry_problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED_FLAG:
        return "is encrypted; build the package without a password"
    if info.compress_type not in _METHODS:
        return f"is packed by method {info.compress_type}; allowed are stored (0) and deflate (8)"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
        return "is a device, socket or pipe; only files, folders and links inside the package are allowed"
    if stat.S_ISLNK(kind) and info.file_size > _LINK_MAX:
        return "is a link with a target that is too long"
    return ""
