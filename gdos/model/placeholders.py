"""${NAME} in arguments, environment and probe targets. `$$` is a dollar; an unknown name is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gdos.model.errors import BadInput, Problem

_PLACE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_.-]*)\}|\{)")


def names_in(text: str) -> set[str]:
    """The names that `text` needs. Raises ValueError for `${` without a name and a closing brace."""
    found = set()
    for match in _PLACE.finditer(text):
        if match[0] == "${":
            raise ValueError(f"expected ${{NAME}}, got {text[match.start() : match.start() + 20]!r}; $$ is a dollar")
        if match[1]:
            found.add(match[1])
    return found


def fill(text: str, values: Mapping[str, str], where: str) -> str:
    """`text` with every ${NAME} replaced. Raises BadInput naming `where` and the unknown name."""
    try:
        missing = sorted(names_in(text) - values.keys())
    except ValueError as e:
        raise BadInput(f"{where}: {e}", [Problem(where, str(e))]) from e
    if missing:
        known = ", ".join(sorted(values)) or "none"
        raise BadInput(
            f"{where}: ${{{missing[0]}}} is not known here; known are {known}",
            [Problem(where, f"${{{name}}} is not known here") for name in missing],
        )
    return _PLACE.sub(lambda m: "$" if m[0] == "$$" else values[m[1]], text)
