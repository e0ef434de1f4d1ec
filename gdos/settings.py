"""Settings of a program: one table of them, resolved as flag > environment > file > default, each with its origin."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdos import yamltext
from gdos.model.errors import BadConfig, BadInput, Problem
from gdos.model.values import parse_duration, parse_size

FILE_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """`key` is the dotted name in the file; the environment's name is made from it; `flag` is without dashes."""

    key: str
    flag: str
    default: Any
    parse: Callable[[Any], Any]
    text: str
    is_secret: bool = False

    def env(self, prefix: str) -> str:
        return prefix + self.key.upper().replace(".", "_")


@dataclass(slots=True)
class Resolved:
    """`values` and `origins` by key; `warnings` are sentences."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def resolve(
    table: tuple[Setting, ...],
    prefix: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: tuple[str, str] | None,
) -> Resolved:
    """Every setting's value. `flags` by flag name, None for not given; `file` is (name, text) of a YAML file.

    Raises BadConfig with all problems: which setting, from where, what is allowed.
    """
    out = Resolved()
    given = _from_file(table, file, out.warnings) if file else {}
    problems = []
    for s in table:
        value, origin = s.default, "default"
        if s.key in given:
            value, origin = given[s.key], f"file {file[0] if file else ''}"
        if environ.get(s.env(prefix)):
            value, origin = environ[s.env(prefix)], f"environment {s.env(prefix)}"
        if flags.get(s.flag) is not None:
            value, origin = flags[s.flag], f"flag --{s.flag}"
        try:
            out.values[s.key] = value if origin == "default" else s.parse(value)
        except (BadInput, ValueError) as e:
            problems.append(Problem(f"{s.key} ({origin})", str(e)))
        out.origins[s.key] = origin
    if problems:
        raise BadConfig("; ".join(str(p) for p in problems), problems)
    return out


def _from_file(table: tuple[Setting, ...], file: tuple[str, str], warnings: list[str]) -> dict[str, Any]:
    name, text = file
    if len(text) > FILE_MAX:
        raise BadConfig(f"{name}: larger than {FILE_MAX} bytes")
    raw = yamltext.load(name, text)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise BadConfig(f"{name}: expected a map of settings")
    known = {s.key for s in table}
    sections = {key.rsplit(".", i)[0] for key in known for i in range(1, key.count(".") + 1)}
    found: dict[str, Any] = {}
    _flatten(raw, "", known, sections, found)
    for key in list(found):
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{name}: {key} is not a known setting and has no effect{hint}")
            del found[key]
    return found


def _flatten(raw: Mapping[Any, Any], prefix: str, known: set[str], sections: set[str], out: dict[str, Any]) -> None:
    for key, value in raw.items():
        full = f"{prefix}{key}"
        if isinstance(value, dict) and full in sections and full not in known:
            _flatten(value, full + ".", known, sections, out)
        elif value is not None:
            out[full] = value


def read_file(named: str | None, default: str) -> tuple[str, str] | None:
    """The configuration file that was named, or the default one where it is there. Raises BadConfig."""
    path = Path(named or default)
    if not named and not path.is_file():
        return None
    try:
        return str(path), path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise BadConfig(f"{path}: cannot be read: {e}") from e


# --- parsers: each takes what a flag, the environment or YAML may give


def text(value: Any) -> str:
    """Any plain value as text."""
    if isinstance(value, (dict, list)):
        raise BadInput(f"expected a text, got {value!r}")
    return str(value)


def port(value: Any) -> int:
    """8080, '8080', ':8080' (the original's spelling)."""
    raw = str(value).removeprefix(":")
    if not raw.isdigit() or int(raw) > 65535 or isinstance(value, bool):
        raise BadInput(f"expected a port from 0 to 65535, got {value!r}")
    return int(raw)


def flag(value: Any) -> bool:
    """true, 1, 'yes', 'on' and their opposites."""
    word = str(value).lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise BadInput(f"expected true or false (1 or 0), got {value!r}")


def size(value: Any) -> int:
    """'50MB', 1048576."""
    return parse_size(str(value))


def megabytes(value: Any) -> int:
    """The original's log sizes: a plain number is megabytes."""
    raw = str(value)
    return int(raw) << 20 if raw.isdigit() else parse_size(raw)


def duration(low: float, high: float) -> Callable[[Any], float]:
    """A duration within bounds (seconds)."""

    def parse(value: Any) -> float:
        seconds = parse_duration(str(value))
        if not low <= seconds <= high:
            raise BadInput(f"expected a duration from {low:g}s to {high:g}s, got {value!r}")
        return seconds

    return parse


def integer(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within bounds."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not str(value).lstrip("-").isdigit() or not low <= int(value) <= high:
            raise BadInput(f"expected an integer from {low} to {high}, got {value!r}")
        return int(value)

    return parse


def choice(*words: str) -> Callable[[Any], str]:
    """One of these words."""

    def parse(value: Any) -> str:
        if str(value) not in words:
            raise BadInput(f"expected one of {', '.join(words)}, got {value!r}")
        return str(value)

    return parse


def words(value: Any) -> list[str]:
    """'a,b' or a list."""
    raw = value if isinstance(value, list) else str(value).split(",")
    return [str(w).strip() for w in raw if str(w).strip()]


def labels(value: Any) -> dict[str, str]:
    """'a=1,b=2', ['a=1', 'b=2'] or a map."""
    if isinstance(value, dict):
        return {str(k): str(v) for k, v in value.items()}
    found = {}
    for word in words(value):
        key, equals, label = word.partition("=")
        if not equals or not key:
            raise BadInput(f"expected labels as key=value, got {word!r}")
        found[key] = label
    return found
