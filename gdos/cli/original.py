"""The original's command lines: `master -port :9090 -db_path F`, `worker -master URL`, `pack-tool build DIR`."""

from __future__ import annotations

from collections.abc import Iterable

PROGRAMS = {"master": ["master"], "worker": ["worker"], "pack-tool": ["pack"], "pack_tool": ["pack"]}


def translate(program: str, arguments: list[str]) -> list[str]:
    """The arguments as `gdos` takes them. Only what can be nothing else is changed."""
    full = [*PROGRAMS.get(program, []), *arguments]
    if full[:2] == ["master", "reset-password"]:
        return full[1:]
    if not full or full[0] not in ("master", "worker"):
        return full
    known, switches = _flags(full[0])
    return [full[0], *(_spell(word, known, switches) for word in full[1:])]


def _spell(word: str, known: Iterable[str], switches: Iterable[str]) -> str:
    """'-db_path' and '--db_path' -> '--db-path'; '-minio_secure=true' -> '--minio-secure'."""
    name, equals, value = word.lstrip("-").partition("=")
    name = name.replace("_", "-")
    if not word.startswith("-") or name not in known:
        return word
    if name in switches and equals:
        return f"--{name}" if value.lower() in ("1", "t", "true") else f"--no-{name}"
    return f"--{name}{equals}{value}"


def _flags(command: str) -> tuple[set[str], set[str]]:
    if command == "master":
        from gdos.master.config import TABLE
    else:
        from gdos.worker.config import TABLE
    known = {s.flag for s in TABLE} | {"config", "help"}
    return known, {s.flag for s in TABLE if s.default is False or s.default is True}
