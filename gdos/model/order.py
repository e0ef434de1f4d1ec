"""Start order as a graph: which modules may be worked on when, and who is in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gdos.model.errors import BadInput, Problem
from gdos.model.values import NAME_PATTERN

GateKind = Literal["started", "ready", "port", "log", "exit 0"]
GATES: tuple[GateKind, ...] = ("started", "ready", "port", "log", "exit 0")


class Dependency(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module that must be there first, and what "there" means: the gate.

    `target`: for `port` host:port (or a port's name), for `log` a regular expression. `timeout`: seconds to wait.
    """

    module: Annotated[str, Meta(pattern=NAME_PATTERN)]
    gate: GateKind = "ready"
    target: Annotated[str, Meta(max_length=1000)] = ""
    timeout: Annotated[int, Meta(ge=1, le=86400, extra={"unit": "seconds"})] = 300


def waves(depends: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The names in waves: each needs only names of earlier waves. Raises BadInput naming a circle.

    What a name depends on and is not a key itself is left out: it is not part of the question.
    """
    left = {name: {d for d in needs if d in depends} for name, needs in depends.items()}
    found: list[list[str]] = []
    while left:
        free = sorted(name for name, needs in left.items() if not needs)
        if not free:
            raise _circle(left)
        found.append(free)
        for name in free:
            del left[name]
        for needs in left.values():
            needs.difference_update(free)
    return found


def circle(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """The names of one circle, the first again at the end; empty when there is none."""
    left = {name: {d for d in needs if d in depends} for name, needs in depends.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    if not left:
        return []
    path = [min(left)]  # everything that is left needs something that is left: walking on must come back
    while path.count(path[-1]) == 1:
        path.append(min(left[path[-1]] & left.keys()))
    return path[path.index(path[-1]) :]


def _circle(depends: Mapping[str, Iterable[str]]) -> BadInput:
    names = circle(depends)
    said = f"modules depend on each other in a circle: {' -> '.join(names)}"
    return BadInput(said, [Problem("depends_on", said)])
