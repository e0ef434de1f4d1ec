from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model.wanted import Release, Wanted
from gdos.wire import codec
from gdos.wire import messages as m
from gdos.wire.codec import ProtocolError
from gdos.wire.session import MasterSession, WorkerSession

HELLO = m.Hello(protocol=1, version="0", run="r", epoch="e", revision=-1, work_dir="/w", hostname="h", facts={})
WELCOME = m.Welcome(protocol=1, version="0", node="n", name="n", now=0, acked=0, silence_s=7.0)


def report(seq: int) -> m.Report:
    return m.Report(seq=seq, at=0, instance="i", state="running", revision=1)


def test_every_message_has_a_direction_and_survives_the_wire() -> None:
    for kind, row in m.MESSAGES.items():
        other = codec.from_master if row.sender == "worker" else codec.from_worker
        data = b'{"t":"%s"}' % kind.__name__.encode()
        with pytest.raises(ProtocolError):
            other(data)
    assert codec.from_worker(codec.encode(HELLO)) == HELLO
    assert codec.from_master(codec.encode(WELCOME)) == WELCOME


def test_a_newer_peer_may_say_more() -> None:
    assert codec.from_worker(b'{"t":"Telepathy","x":1}') is None
    assert codec.from_worker(b'{"t":"WantedAck","revision":3,"mood":"good"}') == m.WantedAck(revision=3)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_a_protocol_error_and_nothing_else(data: bytes) -> None:
    for decode in (codec.from_worker, codec.from_master):
        try:
            assert decode(data) is None or isinstance(decode(data), m.Message)
        except ProtocolError as e:
            assert e.detail


def test_frames_are_limited() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        codec.encode(m.Answer(id=1, data="x" * m.FRAME_MAX))
    with pytest.raises(ProtocolError, match="at most"):
        codec.from_worker(b" " * (m.FRAME_MAX + 1))


def test_the_worker_sends_each_report_once_per_link_and_again_on_the_next() -> None:
    waiting = [report(n) for n in range(1, 4)]
    session = WorkerSession(HELLO, now=0.0)
    assert session.reports_to_send(waiting) == []  # not before the welcome
    session.receive(codec.encode(WELCOME), 1.0)
    assert len(session.reports_to_send(waiting)) == 1
    assert session.reports_to_send(waiting) == []
    again = WorkerSession(HELLO, now=0.0)
    again.receive(codec.encode(m.Welcome(protocol=1, version="0", node="n", name="n", now=0, acked=2)), 1.0)
    (frame,) = again.reports_to_send(waiting)
    assert [r.seq for r in codec.from_worker(frame).items] == [3]  # type: ignore[union-attr]


def test_a_silent_master_is_dead_and_a_ping_keeps_it_alive() -> None:
    session = WorkerSession(HELLO, now=0.0)
    session.receive(codec.encode(WELCOME), 10.0)
    assert session.deadline() == 17.0
    session.heard(12.0)
    assert session.deadline() == 19.0


def test_hello_comes_first_and_once() -> None:
    session = MasterSession(0.0)
    with pytest.raises(ProtocolError, match="before hello"):
        session.receive(codec.encode(m.WantedAck(revision=1)), 0.0)
    session.receive(codec.encode(HELLO), 0.0)
    with pytest.raises(ProtocolError, match="twice"):
        session.receive(codec.encode(HELLO), 0.0)
    session.receive(codec.encode(m.WantedAck(revision=5)), 3.0)
    assert (session.acked_revision, session.heard_at) == (5, 3.0)


def test_a_long_wanted_list_comes_in_parts_and_counts_with_the_last() -> None:
    from gdos.model.wanted import Release, Wanted

    items = [
        Wanted(id=f"i-{n}", name="n", system="s", module="m", revision=n, release=Release("p", "1", "0" * 64, 1))
        for n in range(450)
    ]
    frames = [codec.from_master(f) for f in MasterSession(0.0).wanted_list(449, items, full=True)]
    assert [f.revision for f in frames] == [0, 0, 449]  # type: ignore[union-attr]
    assert sum(len(f.items) for f in frames) == 450  # type: ignore[union-attr]


def test_what_does_not_fit_into_one_frame_goes_in_several() -> None:
    """Two hundred instances crash at once, each with twenty long lines; as many have a large configuration."""
    session = WorkerSession(HELLO, 0.0)
    session.start()
    session.receive(codec.encode(WELCOME), 0.0)
    long = [msgspec.structs.replace(report(n), log_tail=["x" * 500] * 20) for n in range(1, 201)]
    frames = session.reports_to_send(long)
    assert len(frames) > 1
    got = [item.seq for frame in frames for item in codec.from_worker(frame).items]  # type: ignore[union-attr]
    assert got == list(range(1, 201))

    release = Release("p", "1", "0" * 64, 1)
    wants = [
        Wanted(id=f"i-{n}", name="n", system="s", module="m", revision=n, release=release, env={"A": "y" * 60_000})
        for n in range(1, 51)
    ]
    frames = MasterSession(0.0).wanted_list(50, wants, full=True)
    messages = [codec.from_master(frame) for frame in frames]
    assert [w.id for message in messages for w in message.items] == [w.id for w in wants]  # type: ignore[union-attr]
    assert [message.revision for message in messages] == [0] * (len(frames) - 1) + [50]  # type: ignore[union-attr]
    huge = [msgspec.structs.replace(wants[0], env={"A": "y" * m.FRAME_MAX})]
    with pytest.raises(ProtocolError):
        MasterSession(0.0).wanted_list(1, huge, full=True)
