"""JSON as people write it: `//` and `/* */` comments, trailing commas, a byte order mark."""

from __future__ import annotations

import json
import re
from typing import Any

from gdos.model.errors import BadPackage

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"'  # a string, kept as it is
    r"|//[^\r\n]*"
    r"|/\*.*?\*/"
    r"|,(?=(?:\s|//[^\r\n]*(?=[\r\n])|/\*.*?\*/)*[}\]])",  # a comma with only space and comments before the bracket
    re.DOTALL,
)


def strip(text: str) -> str:
    """The same text as strict JSON; comments become spaces, so that line and column of an error stay right."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return token if token.startswith('"') else re.sub(r"[^\r\n]", " ", token)

    return _TOKEN.sub(blank, text.removeprefix("\ufeff"))


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the key {twice[0]!r} stands there twice")
    return found


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def loads(data: bytes, source: str) -> Any:
    """Parse. Raises BadPackage with the line and column; `source` names the file in that sentence."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise BadPackage(f"{source}: not UTF-8 at byte {e.start}; save the file as UTF-8") from e
    try:
        return json.loads(strip(text), object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant)
    except json.JSONDecodeError as e:
        raise BadPackage(f"{source}: broken JSON at line {e.lineno}, column {e.colno}: {e.msg}") from e
    except (ValueError, RecursionError) as e:
        raise BadPackage(f"{source}: {e}") from e
