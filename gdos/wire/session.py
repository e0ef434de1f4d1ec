"""Both ends of a link as state without I/O: who may say what when, what is unacknowledged, when the peer is dead.

Bytes in, messages out; the clock (monotonic seconds) comes in with each call. The worker's link thread and the
master's loop each drive one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gdos.model.wanted import Wanted
from gdos.wire import codec
from gdos.wire import messages as m
from gdos.wire.codec import ProtocolError

T = TypeVar("T")
REPORTS_PER_MESSAGE = 200


class WorkerSession:
    """One link, from the worker's side: hello, then reports in order until each is acknowledged."""

    def __init__(self, hello: m.Hello, now: float, silence_s: float = 15.0) -> None:
        self._hello = hello
        self._silence_s = silence_s
        self._heard_at = now
        self._sent_seq = 0
        self.welcome: m.Welcome | None = None
        self.refused: m.Refused | None = None

    def start(self) -> bytes:
        """The first frame."""
        return codec.encode(self._hello)

    def receive(self, data: bytes, now: float) -> m.FromMaster | None:
        """A frame from the master as a message; None for one that this version does not know."""
        self.heard(now)
        message = codec.from_master(data)
        if isinstance(message, m.Welcome):
            if self.welcome is not None:
                raise ProtocolError("the master said welcome twice")
            self.welcome = message
            self._silence_s = message.silence_s
            self._sent_seq = message.acked
        elif isinstance(message, m.Refused):
            self.refused = message
        elif message is not None and self.welcome is None:
            raise ProtocolError(f"the master said {type(message).__name__} before welcome")
        return message

    def heard(self, now: float) -> None:
        """Any sign of life, a ping too."""
        self._heard_at = now

    def reports_to_send(self, unacknowledged: Iterable[m.Report]) -> list[bytes]:
        """Frames with the reports that this link has not carried yet; nothing before the welcome."""
        if self.welcome is None:
            return []
        fresh = [r for r in unacknowledged if r.seq > self._sent_seq]
        if fresh:
            self._sent_seq = fresh[-1].seq
        return [frame for part in _parts(fresh) for frame in _frames(part, lambda items: m.Reports(items=items))]

    def deadline(self) -> float:
        """When the master counts as dead if nothing is heard until then."""
        return self._heard_at + self._silence_s


class MasterSession:
    """One link, from the master's side: a hello first, then what a worker may say; revisions acknowledged."""

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self.hello: m.Hello | None = None
        self.sent_revision = -1
        self.acked_revision = -1

    def receive(self, data: bytes, now: float) -> m.FromWorker | None:
        """A frame from the worker as a message; None for one that this version does not know."""
        self.heard_at = now
        message = codec.from_worker(data)
        if isinstance(message, m.Hello):
            if self.hello is not None:
                raise ProtocolError("the worker said hello twice")
            self.hello = message
        elif message is not None and self.hello is None:
            raise ProtocolError(f"the worker said {type(message).__name__} before hello")
        if isinstance(message, m.WantedAck):
            self.acked_revision = max(self.acked_revision, message.revision)
        return message

    def wanted_list(self, revision: int, items: Sequence[Wanted], *, full: bool) -> list[bytes]:
        """The frames that bring the worker to `revision`; parts, since one frame is limited."""
        self.sent_revision = revision
        *before, last = list(_parts(list(items))) or [[]]
        part = [f for p in before for f in _frames(p, lambda items: m.WantedList(revision=0, items=items, full=full))]
        while True:
            try:
                return [*part, codec.encode(m.WantedList(revision=revision, items=last, full=full))]
            except ProtocolError:
                if len(last) < 2:
                    raise
                half = len(last) // 2  # the last frame has the revision: what does not fit into it goes before
                part += _frames(last[:half], lambda items: m.WantedList(revision=0, items=items, full=full))
                last = last[half:]


def _frames(items: list[T], make: Callable[[list[T]], m.Message]) -> list[bytes]:
    """One frame, or as many as the limit of a frame asks for. Raises ProtocolError when one item alone is too large."""
    try:
        return [codec.encode(make(items))]
    except ProtocolError:
        if len(items) < 2:
            raise
        half = len(items) // 2
        return _frames(items[:half], make) + _frames(items[half:], make)


def _parts(items: list[T]) -> Iterable[list[T]]:
    for i in range(0, len(items), REPORTS_PER_MESSAGE):
        yield items[i : i + REPORTS_PER_MESSAGE]
