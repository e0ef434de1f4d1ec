"""What a store of package bytes must do. Content-addressed: the same bytes are there once, whatever their name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Received:
    """An upload on its way: complete and hashed in a temporary file, not yet visible."""

    path: Path
    sha256: str
    size: int


class Blobs(Protocol):
    def receive(self, read: Callable[[int], bytes], declared: int | None, limit: int) -> Received:
        """Take an upload into a temporary file. Raises StorageFull, TooLarge, Malformed (cut short)."""
        ...

    def keep(self, received: Received) -> None:
        """Make it visible under its hash, safely on the disk. Doing it twice is harmless."""
        ...

    def discard(self, received: Received) -> None:
        """Forget an upload; harmless when it was kept."""
        ...

    def open(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to and without `end`. Raises NotFound at the call, not later."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove; harmless when it is not there."""
        ...

    def tidy(self, known: set[str]) -> list[str]:
        """Remove half-done uploads and blobs that no version refers to; returns the hashes removed."""
        ...

    def missing(self, known: set[str]) -> set[str]:
        """Which of these are not there."""
        ...
