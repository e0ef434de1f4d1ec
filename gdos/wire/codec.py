"""Bytes to messages and back. A frame that cannot be read raises ProtocolError; an unknown tag is not an error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from gdos.model.errors import GdosError
from gdos.wire import messages as m


class ProtocolError(GdosError):
    code, title, status = "protocol_error", "The peer broke the protocol", 400


M = TypeVar("M")
_encoder = msgspec.json.Encoder()
_from_worker = msgspec.json.Decoder(m.FromWorker)
_from_master = msgspec.json.Decoder(m.FromMaster)


class _Tag(msgspec.Struct):
    t: str = ""


_tag = msgspec.json.Decoder(_Tag)
_known = {kind.__name__: row.sender for kind, row in m.MESSAGES.items()}


def encode(message: m.Message) -> bytes:
    """One message as the bytes of one frame. Raises ProtocolError when it is larger than a frame may be."""
    data = _encoder.encode(message)
    if len(data) > m.FRAME_MAX:
        raise ProtocolError(f"{type(message).__name__}: {len(data)} bytes, at most {m.FRAME_MAX} are allowed")
    return data


def from_worker(data: bytes) -> m.FromWorker | None:
    """A worker's message, or None for a kind that this version does not know. Raises ProtocolError."""
    return _decode(data, _from_worker, "worker")


def from_master(data: bytes) -> m.FromMaster | None:
    """The master's message, or None for a kind that this version does not know. Raises ProtocolError."""
    return _decode(data, _from_master, "master")


def _decode(data: bytes, decoder: msgspec.json.Decoder[M], sender: str) -> M | None:
    if len(data) > m.FRAME_MAX:
        raise ProtocolError(f"a frame of {len(data)} bytes, at most {m.FRAME_MAX} are allowed")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        try:
            name = _tag.decode(data).t
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            name = ""
        if name and name not in _known:
            return None
        raise ProtocolError(f"{name or 'a frame'} from the {sender}: {e}") from e
