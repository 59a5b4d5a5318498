"""Congestion that is told instead of suffered: RFC 3168 §6.1."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.packets import FAMILIES, name, with_ipv4_options
from tests.stack.tcp.peer import Peer, Segment, peer
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import FlowRequested
from tunsmith.stack.tcp.policy import Options
from tunsmith.wire.ip import IPV4, IpFamily
from tunsmith.wire.tcp import TcpOptions

MSS = 1460
NOT_ECT, ECT0, CE = 0, 2, 3
both = pytest.mark.parametrize("family", FAMILIES, ids=name)


def marked(**settings: Any) -> Peer:
    """A peer that has agreed on ECN."""
    other = peer(**{"congestion": "reno", **settings})
    (synack,) = _ask(other, "SEW")
    assert synack.flags == "S.E"
    other.ack = 1
    assert other.send(".", 1) == []
    other.events()
    return other


def _ask(other: Peer, flags: str, **syn: Any) -> list[Segment]:
    """Send a SYN with `flags`; returns the answer to it."""
    other.send(flags, 0, **syn)
    event = other.stack.poll_event()
    assert isinstance(event, FlowRequested)
    connection = event.request.accept(None, other.now)
    assert connection is not None
    other.connection = connection
    return other.answers()


def brief(sent: list[Segment]) -> list[tuple[str, int, int, int]]:
    return [(segment.flags, segment.seq, len(segment.data), segment.ecn) for segment in sent]


# --- the handshake ---


@pytest.mark.parametrize(
    ("ours", "theirs", "answer"),
    [
        ("accept", "SEW", "S.E"),
        ("request", "SEW", "S.E"),
        ("off", "SEW", "S."),
        ("accept", "S", "S."),
        ("accept", "SE", "S."),
    ],
)
def test_ecn_is_agreed_on_where_the_peer_asks_and_we_may__rfc3168_6_1_1(
    ours: str, theirs: str, answer: str
) -> None:
    other = peer(ecn=ours)
    (synack,) = _ask(other, theirs)
    assert (synack.flags, synack.ecn) == (answer, NOT_ECT)
    assert (other.connection.ecn is not None) is (answer == "S.E")


@pytest.mark.parametrize(("answer", "agreed"), [("S.E", True), ("S.", False), ("S.EW", False)])
def test_ecn_is_requested_and_agreed_on_by_ece_alone__rfc3168_6_1_1(answer: str, agreed: bool) -> None:
    other = peer(ecn="request")
    syn = _open(other)
    assert syn.flags == "SEW"
    other.send(answer, 0)
    assert other.state == "ESTABLISHED"
    assert (other.connection.ecn is not None) is agreed


def _open(other: Peer) -> Segment:
    """Have the stack connect; returns its SYN."""
    connection = other.stack.connect(other.destination, 80, other.source, 40000, other.now)
    assert connection is not None
    other.connection = connection
    (syn,) = other.answers()
    other.ack = 1
    return syn


def test_a_syn_that_is_sent_again_does_not_ask__rfc3168_6_1_1() -> None:
    other = peer(ecn="request")
    _open(other)
    assert [segment.flags for segment in other.tick()] == ["S"]


def test_simultaneous_opens_may_both_ask() -> None:
    other = peer(ecn="request")
    _open(other)
    (synack,) = other.send("SEW", 0)
    assert synack.flags == "S.E"


def test_ecn_is_agreed_on_beside_options_of_the_owner() -> None:
    other = peer(options=Options(ttl=7))
    _ask(other, "SEW")
    other.send(".", 1, ack=1)
    other.connection.send(b"text", other.now)
    (frame,) = other.stack.frames_to_send()
    assert (frame[11], frame[18]) == (ECT0, 7)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="ecn is 'maybe', not one of off, accept, request"):
        StackConfig(ecn="maybe")


# --- the sender ---


@both
def test_new_text_is_ecn_capable_and_nothing_else_is__rfc3168_6_1_4(family: IpFamily) -> None:
    other = marked(family=family)
    mss = other.connection.sender.mss
    assert brief(other.take(bytes(2 * mss))) == [(".", 1, 2 * mss, ECT0)]
    assert brief(other.tick()) == [(".", 1, mss, NOT_ECT)]
    other.send(".", 1, ack=1 + 2 * mss)
    assert brief(other.send(".", 5, b"behind a hole")) == [(".", 1 + 2 * mss, 0, NOT_ECT)]


def test_an_echo_reduces_the_window_once_a_round_trip_and_the_peer_is_told__rfc3168_6_1_2() -> None:
    other = marked()
    other.take(bytes(10 * MSS))
    other.send(".E", 1, ack=1 + MSS)
    sender = other.connection.sender
    assert (sender.cc.ssthresh, sender.retransmits) == (5 * MSS, 0)
    for number in range(2, 10):
        other.send(".E", 1, ack=1 + number * MSS)
    assert sender.cc.ssthresh == 5 * MSS
    first, second = other.take(bytes(2 * MSS))
    assert (first.flags, len(first.data), first.gso_size, first.ecn) == (".W", MSS, 0, ECT0)
    assert (second.flags, second.seq, len(second.data)) == (".", first.seq + MSS, MSS)
    other.send(".", 1, ack=1 + 12 * MSS)
    assert sender.cc.cwnd == 5 * MSS
    assert not sender.troubled
    other.take(bytes(4 * MSS))
    other.send(".E", 1, ack=1 + 13 * MSS)
    assert sender.cc.ssthresh < 5 * MSS


def test_a_short_segment_tells_of_the_reduction_itself() -> None:
    other = marked()
    other.take(bytes(2 * MSS))
    other.send(".E", 1, ack=1 + MSS)
    assert brief(other.take(b"text")) == [(".W", 1 + 2 * MSS, 4, ECT0)]
    assert brief(other.take(b"more")) == [(".", 5 + 2 * MSS, 4, ECT0)]


def test_an_echo_with_nothing_in_flight_reduces_nothing() -> None:
    other = marked()
    other.send(".E", 1)
    assert [segment.flags for segment in other.take(b"text")] == ["."]


def test_an_echo_of_what_was_never_sent_reduces_nothing__rfc5961_5_2() -> None:
    other = marked()
    other.take(bytes(10 * MSS))
    other.send(".E", 1, ack=1 + 20 * MSS)
    assert not other.connection.sender.troubled


def test_an_echo_reduces_nothing_where_ecn_was_not_agreed_on() -> None:
    other = peer()
    other.establish()
    other.take(bytes(10 * MSS))
    other.send(".E", 1, ack=1 + MSS)
    assert not other.connection.sender.troubled


def test_the_owners_traffic_class_stays_beside_the_mark() -> None:
    other = marked()
    other.connection.set_options(Options(traffic_class=0xB8), other.now)
    other.connection.send(b"text", other.now)
    (frame,) = other.stack.frames_to_send()
    assert frame[11] == 0xB8 | ECT0


# --- the receiver ---


@both
def test_a_mark_is_echoed_until_the_peer_has_reduced__rfc3168_6_1_3(family: IpFamily) -> None:
    other = marked(family=family)
    other.send(".", 1, b"a", ecn=CE)
    assert [segment.flags for segment in other.tick()] == [".E"]
    other.send(".", 2, b"b", ecn=ECT0)
    assert [segment.flags for segment in other.take(b"text")] == [".E"]
    other.send(".W", 3, b"c", ecn=ECT0)
    assert [segment.flags for segment in other.tick()] == ["."]


def test_a_mark_on_the_packet_that_tells_of_the_reduction_counts__rfc3168_6_1_3() -> None:
    other = marked()
    other.send(".", 1, b"a", ecn=CE)
    other.send(".W", 2, b"b", ecn=CE)
    assert [segment.flags for segment in other.tick()] == [".E"]


def test_a_mark_behind_a_hole_is_echoed_beside_the_blocks() -> None:
    other = peer(sack=True)
    _ask(other, "SEW", options=TcpOptions(mss=MSS, sack_permitted=True))
    other.send(".", 1, ack=1)
    (ack,) = other.send(".", 11, b"late", ecn=CE)
    assert ack.flags == ".E"
    assert len(ack.options.sack) == 1


def test_a_mark_outside_of_the_window_is_not_echoed() -> None:
    other = marked()
    other.send(".", 1 << 25, b"elsewhere", ecn=CE)
    other.send(".", 1, b"a", ecn=ECT0)
    assert [segment.flags for segment in other.tick()] == ["."]


def test_a_closed_connection_leaves_nothing_behind() -> None:
    other = marked()
    other.send("R", 1)
    assert other.connection.ecn is None


def test_a_loss_while_the_window_shrinks_is_repaired_without_a_second_reduction() -> None:
    other = marked()
    other.take(bytes(10 * MSS))
    other.send(".E", 1, ack=1 + MSS)
    for _ in range(3):
        sent = other.send(".", 1, ack=1 + MSS)
    assert brief(sent) == [(".", 1 + MSS, MSS, NOT_ECT)]
    assert other.connection.sender.cc.ssthresh == 5 * MSS


# --- marks off the fast path ---


def cut_in_two(whole: bytes, family: IpFamily, ecn: tuple[int, int]) -> list[bytes]:
    """A packet without ECN as two fragments, which meet routers of their own."""
    n = family.header_length
    ends, protocol = ((12, 16), 9) if family is IPV4 else ((8, 24), 6)
    source, destination = (whole[at : at + family.address_length] for at in ends)
    payload = whole[n:]
    pieces = []
    for at, piece, mark in ((0, payload[:24], ecn[0]), (24, payload[24:], ecn[1])):
        more = not at
        if family is IPV4:
            field = at // 8 | (0x2000 if more else 0)
            head = family.header(source, destination, 6, len(piece), traffic_class=mark, fragment=field)
        else:
            head = family.header(source, destination, 44, 8 + len(piece), traffic_class=mark)
            head += bytes((whole[protocol], 0)) + (at | more).to_bytes(2, "big") + bytes(4)
        pieces.append(head + piece)
    return pieces


@both
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("ecn", "echo"), [((ECT0, ECT0), ""), ((CE, ECT0), "E"), ((ECT0, CE), "E")])
def test_a_mark_on_one_fragment_is_one_on_all__rfc3168_5_3(
    family: IpFamily, ecn: tuple[int, int], echo: str, backwards: bool
) -> None:
    other = marked(family=family)
    pieces = cut_in_two(other.packet(".", 1, b"some text"), family, ecn)
    for piece in pieces[::-1] if backwards else pieces:
        other.stack.receive(piece, other.now)
    assert other.read() == b"some text"
    (ack,) = other.wait(0.05)
    assert ack.flags == "." + echo


@both
def test_a_mark_beside_options_is_seen__rfc3168_6_1_3(family: IpFamily) -> None:
    other = marked(family=family)
    whole = other.packet(".", 1, b"some text", ecn=CE)
    if family is IPV4:
        whole = with_ipv4_options(whole, b"\1\1\1\0")
    else:  # destination options, all of it padding
        head = bytearray(whole[:40])
        head[4:6] = (len(whole) - 32).to_bytes(2, "big")
        head[6] = 60
        whole = bytes(head) + bytes((6, 0, 1, 4, 0, 0, 0, 0)) + whole[40:]
    other.stack.receive(whole, other.now)
    assert other.read() == b"some text"
    (ack,) = other.wait(0.05)
    assert ack.flags == ".E"
