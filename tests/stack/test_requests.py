"""From a SYN to an answer: LISTEN and CLOSED of RFC 9293 §3.10.7, and the bounds of both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import PLAIN_CONFIG, Peer, peer
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import FlowRequested
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import TcpOptions

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


# --- CLOSED, §3.10.7.1 ---


@both
def test_a_stray_ack_is_reset_at_its_own_number(family: IpFamily) -> None:
    other = peer(family=family)
    (reset,) = other.send(".", 5, b"text", ack=77)
    assert (reset.flags, reset.seq, reset.ack) == ("R", 77, 0)


@both
def test_a_stray_without_ack_is_reset_with_all_it_carried_acknowledged(family: IpFamily) -> None:
    other = peer(family=family)
    (reset,) = other.send("F", 5, b"text")
    assert (reset.flags, reset.seq, reset.ack) == ("R.", 0, 10)
    assert other.stack.drops == {"tcp_no_connection": 1}


def test_a_stray_reset_is_never_answered() -> None:
    other = peer()
    assert other.send("R", 5) == []
    assert other.send("R.", 5) == []
    assert other.send("SR", 5) == []


@pytest.mark.parametrize("flags", ["S.", "SF"])
def test_what_is_not_just_a_syn_opens_nothing(flags: str) -> None:
    other = peer()
    assert [segment.flags[0] for segment in other.send(flags, 0)] == ["R"]
    assert other.events() == []


# --- martians ---


@both
@pytest.mark.parametrize("flags", ["S", "."])
def test_groups_are_neither_heard_nor_answered(family: IpFamily, flags: str) -> None:
    group = b"\xe0\0\0\x01" if family.version == 4 else b"\xff\x02" + bytes(13) + b"\x01"
    other = peer(family=family)
    address, other.source = other.source, group
    assert other.send(flags, 0) == []
    other.source, other.destination = address, group
    assert other.send(flags, 0) == []
    assert other.stack.drops == {"martian": 2}


@pytest.mark.parametrize("ports", [(0, 80), (40000, 0)])
def test_there_is_no_port_zero(ports: tuple[int, int]) -> None:
    other = peer()
    assert other.send("S", 0, ports=ports) == []
    assert other.stack.drops == {"martian": 1}


@pytest.mark.parametrize("flags", ["S", "."])
def test_only_our_addresses_where_we_have_some(flags: str) -> None:
    other = peer(any_destination=False, addresses=(b"\x0a\0\0\x09",))
    assert other.send(flags, 0) == []
    assert other.stack.drops == {"not_our_address": 1}
    other.destination = b"\x0a\0\0\x09"
    other.request()


# --- a request ---


@both
def test_a_request_knows_its_ends(family: IpFamily) -> None:
    other = peer(family=family)
    request = other.request()
    assert request.source == (other.source, 40000)
    assert request.destination == (other.destination, 80)


def test_a_syn_again_while_nobody_has_answered_is_nothing_new() -> None:
    other = peer()
    other.request()
    assert other.send("S", 0) == []
    assert other.events() == []


def test_refused() -> None:
    other = peer()
    request = other.request()
    request.refuse(other.now)
    (reset,) = other.answers()
    assert (reset.flags, reset.seq, reset.ack) == ("R.", 0, 1)
    request.refuse(other.now)
    assert request.accept(None, other.now) is None
    assert other.answers() == []


def test_dropped_and_asked_again() -> None:
    other = peer()
    other.request().drop()
    assert other.answers() == []
    other.request()


def test_a_reset_takes_the_request_back() -> None:
    other = peer()
    request = other.request()
    calls: list[bool] = []
    request.on_cancelled = lambda: calls.append(request.cancelled)
    assert other.send("R", 200_000) == []
    assert other.send("R", 0) == []
    assert other.stack.requests
    assert not calls
    assert other.send("R", 1) == []
    assert calls == [True]
    assert request.accept(None, other.now) is None
    request.unreachable(IcmpError.HOST, other.now)
    assert other.answers() == []


def test_a_reset_takes_back_a_request_whose_owner_does_not_ask() -> None:
    other = peer()
    request = other.request()
    assert other.send("R", 1) == []
    assert request.cancelled
    assert not other.stack.requests


def test_a_syn_with_nothing_but_a_timestamp_is_understood() -> None:
    other = peer(timestamps=True)
    synack = other.knock(options=TcpOptions(timestamp=(777, 0)))
    assert synack.options.timestamp is not None
    assert synack.options.timestamp[1] == 777


def test_text_on_a_syn_comes_again() -> None:
    other = peer()
    assert other.send("S", 0, b"fast open") == []
    event = other.stack.poll_event()
    assert isinstance(event, FlowRequested)
    event.request.accept(None, other.now)
    (synack,) = other.answers()
    assert synack.ack == 1


# --- bounds ---


def flood(stack: Stack, sources: int, ports: int) -> list[FlowRequest]:
    """A SYN from each of `ports` ports of `sources` hosts; returns the requests that came of them."""
    for source in range(sources):
        other = Peer()
        other.stack, other.source = stack, bytes((10, 1, source // 256, source % 256))
        for port in range(1, ports + 1):
            other.send("S", 0, ports=(port, 80))
    requests = []
    while (event := stack.poll_event()) is not None:
        assert isinstance(event, FlowRequested)
        requests.append(event.request)
    return requests


def test_unanswered_requests_are_bounded_in_all_and_by_source__rfc4987() -> None:
    stack = Stack(StackConfig(pending_limit=20, pending_per_source=6))
    requests = flood(stack, 5, 10)
    assert len(requests) == 20
    assert stack.drops == {"syn_flood": 30}
    assert not list(stack.frames_to_send())
    for request in requests:
        request.drop()
    assert not stack.requests
    assert not stack.requests_by_source
    assert len(flood(stack, 1, 10)) == 6


def test_beyond_the_limit_a_connection_is_reset() -> None:
    stack = Stack(StackConfig(connection_limit=2))
    accepted = [request.accept(None, 1.0) for request in flood(stack, 3, 1)]
    assert [connection is not None for connection in accepted] == [True, True, False]
    assert stack.drops == {"connection_limit": 1}
    assert len(stack.connections) == 2


# --- initial sequence numbers, RFC 6528 ---


def test_the_isn_of_a_flow_follows_a_clock_and_that_of_another_cannot_be_guessed__rfc6528_3_rfc9293_3_4_1() -> (
    None
):
    stack = Stack(StackConfig(isn_secret=b"secret"))
    one, two = b"a" * 12, b"b" * 12
    assert stack.initial_sequence(one, 10.0) - stack.initial_sequence(one, 9.0) in (250_000, 250_000 - 2**32)
    assert stack.initial_sequence(one, 10.0) != stack.initial_sequence(two, 10.0)
    other = Stack(StackConfig(isn_secret=b"another"))
    assert stack.initial_sequence(one, 10.0) != other.initial_sequence(one, 10.0)


def test_who_embeds_the_stack_may_choose_the_isn() -> None:
    asked: list[tuple[bytes, float]] = []

    def isn(key: bytes, now: float) -> int:
        asked.append((key, now))
        return 0x1_2345_6789

    other = Peer(replace(PLAIN_CONFIG, isn=isn))
    other.knock()
    assert other.iss == 0x2345_6789
    assert asked == [(other.connection.key, other.now)]
