"""Finds what is baked into the program: the console's files and the examples; in a checkout, beside the package."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Asset(NamedTuple):
    data: bytes
    tag: str


def baked(name: str) -> Path:
    """The folder `name` ('web_dist', 'examples') in the archive, or in the checkout."""
    inside = Path(__file__).parent / "_baked" / name
    return inside if inside.is_dir() else Path(__file__).parent.parent / name


@lru_cache(maxsize=64)
def asset(name: str) -> Asset | None:
    """A file of the console, or None; never one outside its folder."""
    folder = baked("web_dist")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    data = path.read_bytes()
    return Asset(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
