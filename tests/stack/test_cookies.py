"""SYN cookies, RFC 4987 §3.6, and the listener that needs them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import PORTS, Peer, Segment, peer
from tunsmith.stack.cookies import LIFETIME, PERIOD, SIZES, Cookies, options_of, stamp_of
from tunsmith.stack.listener import Listener
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Options
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import TcpOptions

both = pytest.mark.parametrize("family", FAMILIES, ids=name)
KEY = bytes(range(12))
COOKIES = Cookies(b"secret")
words = st.integers(0, 2**32 - 1)
FULL = TcpOptions(mss=1400, window_scale=7, sack_permitted=True, timestamp=(500, 0))


# --- numbers ---


@given(isn=words, mss=st.integers(1, 65535), now=st.floats(0, 1e9), later=st.floats(0, PERIOD))
def test_a_cookie_gives_back_the_mss_rounded_down(isn: int, mss: int, now: float, later: float) -> None:
    cookie = COOKIES.make(KEY, isn, mss, now)
    assert 0 <= cookie < 2**32
    assert COOKIES.check(KEY, isn, cookie, now + later) == max(
        [size for size in SIZES if size <= mss] or [SIZES[0]]
    )


@given(isn=words, other=words)
def test_a_cookie_is_good_for_one_syn_and_one_stack(isn: int, other: int) -> None:
    cookie = COOKIES.make(KEY, isn, 1460, 0.0)
    assert COOKIES.check(KEY[::-1], isn, cookie, 0.0) is None
    assert isn == other or COOKIES.check(KEY, other, cookie, 0.0) is None
    assert Cookies(b"another").check(KEY, isn, cookie, 0.0) is None
    assert COOKIES.check(KEY, isn, cookie ^ 1, 0.0) is None


def test_a_cookie_gets_old() -> None:
    cookie = COOKIES.make(KEY, 1, 1460, 0.0)
    assert COOKIES.check(KEY, 1, cookie, LIFETIME - 0.001) == 1460
    assert COOKIES.check(KEY, 1, cookie, LIFETIME) is None


@given(clock=words, scale=st.none() | st.integers(0, 14), sack=st.booleans(), ecn=st.booleans(), tsval=words)
def test_the_timestamp_carries_the_rest_and_is_not_ahead_of_its_time(
    clock: int, scale: int | None, sack: bool, ecn: bool, tsval: int
) -> None:
    stamp = stamp_of(TcpOptions(window_scale=scale, sack_permitted=sack, ecn=ecn), clock)
    assert clock - 64 < stamp <= clock
    options = options_of(1460, tsval, stamp & 0xFFFFFFFF)
    assert options.ecn is ecn
    assert (options.window_scale, options.sack_permitted, options.timestamp[0]) == (scale, sack, tsval)  # type: ignore[index]


# --- a listener under attack ---


def under_attack(family: IpFamily, backlog: int = 1, **settings: Any) -> tuple[Peer, Listener]:
    """As many SYNs as the backlog has places have come and are not going to be answered."""
    other = peer(family=family, timestamps=True, sack=True, window_scaling=True, **settings)
    listener = other.stack.listen(None, PORTS[1], backlog=backlog)
    for port in range(1, backlog + 1):
        assert other.send("S", 0, ports=(port, PORTS[1]))
    return other, listener


def knock(other: Peer, options: TcpOptions = FULL) -> Segment:
    """A SYN, and what comes back."""
    (synack,) = other.send("S", 0, options=options)
    assert synack.flags in ("S.", ".S")
    other.ack = 1
    if options.timestamp is not None:
        assert synack.options.timestamp is not None
        other.stamp, other.echo = 501, synack.options.timestamp[0]
    return synack


@both
def test_a_cookie_keeps_no_state_and_opens_a_connection_with_all_options(family: IpFamily) -> None:
    other, listener = under_attack(family)
    synack = knock(other)
    assert len(other.stack.connections) == 1
    assert other.stack.drops == {"syn_flood": 1}
    assert (synack.options.window_scale, synack.options.sack_permitted) == (4, True)
    assert other.stack.next_deadline() is not None
    assert other.send(".", 1, b"text") == []
    assert other.events() == ["incoming"]
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert connection.connected
    assert (connection.snd_scale, connection.rcv_scale) == (7, 4)
    assert (connection.sender.mss, connection.timestamps) == (1360 - 12, True)
    assert connection.read(10, other.now) == b"text"
    other.stack.connections.clear()
    connection.send(b"answer", other.now)
    *_, answer = other.answers()
    assert (answer.seq, answer.ack, answer.data) == (1, 5, b"answer")
    assert answer.options.timestamp is not None
    assert answer.options.timestamp[0] - other.echo < 64


@pytest.mark.parametrize("willing", ["accept", "off"])
def test_a_cookie_remembers_ecn__rfc3168_6_1_1(willing: str) -> None:
    other, listener = under_attack(FAMILIES[0], ecn=willing)
    (synack,) = other.send("SEW", 0, options=FULL)
    assert set(synack.flags) == set("S.E" if willing == "accept" else "S.")
    assert synack.options.timestamp is not None
    other.ack, other.stamp, other.echo = 1, 501, synack.options.timestamp[0] | 32
    other.send(".", 1)
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert (connection.ecn is not None) is (willing == "accept")


@both
def test_without_timestamps_only_the_mss_is_remembered(family: IpFamily) -> None:
    other, listener = under_attack(family)
    synack = knock(other, TcpOptions(mss=1300, window_scale=7, sack_permitted=True))
    assert synack.options == TcpOptions(mss=1500 - family.header_length - 20)
    other.stamp = None
    other.send(".", 1)
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert (connection.sender.mss, connection.snd_scale, connection.rcv_scale) == (1220, 0, 0)


@both
def test_a_syn_without_mss_gets_the_default__rfc9293_3_7_1(family: IpFamily) -> None:
    other, listener = under_attack(family)
    knock(other, TcpOptions())
    other.stamp = None
    other.send(".", 1)
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert connection.sender.mss == (536 if family.version == 4 else 1220)


@both
def test_an_ack_without_the_cookie_is_reset(family: IpFamily) -> None:
    other, listener = under_attack(family)
    knock(other)
    for fields in ({"ack": 2}, {"ports": (40001, PORTS[1])}):
        assert [segment.flags for segment in other.send(".", 1, **fields)] == ["R"]
    assert [segment.flags for segment in other.send(".", 2)] == ["R"]
    other.now += LIFETIME
    assert [segment.flags for segment in other.send(".", 1)] == ["R"]
    assert not listener.waiting


def test_an_ack_is_not_even_looked_at_where_no_cookie_was_given() -> None:
    other = peer()
    listener = other.stack.listen(None, PORTS[1])
    other.iss = Cookies(other.config.isn_secret).make(
        other.family.key(other.source, 40000, other.destination, 80), other.isn, 1460, other.now
    )
    assert [segment.flags for segment in other.send(".", 1, ack=1)] == ["R"]
    assert not listener.waiting


def test_a_cookie_finds_silence_while_too_many_wait() -> None:
    other, listener = under_attack(FAMILIES[0])
    knock(other)
    (first,) = other.stack.connections.values()
    other.iss, ours = first.iss, other.iss
    assert other.send(".", 1, ports=(1, PORTS[1])) == []
    other.iss = ours
    assert len(listener.waiting) == 1
    assert other.send(".", 1) == []
    assert other.stack.drops["listen_overflow"] == 1
    assert listener.accept(None, other.now) is first
    assert other.send(".", 1, b"again") == []
    assert listener.accept(None, other.now) is not None


def test_cookies_may_be_switched_off() -> None:
    other, _ = under_attack(FAMILIES[0], syn_cookies=False)
    assert other.send("S", 0) == []
    assert other.stack.drops == {"syn_flood": 1}


def test_a_cookie_does_not_reopen_what_waits_in_time_wait() -> None:
    other = peer(window_scaling=False)
    other.establish()
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send("F.", 1)
    other.stack.listen(None, PORTS[1], backlog=1)
    other.stack.receive(other.packet("S", 0, ports=(1, PORTS[1])), other.now)
    other.answers()
    assert other.send("S", 100_000) == []


def test_a_flood_costs_no_memory() -> None:
    other, listener = under_attack(FAMILIES[0], backlog=4)
    other.wait(0.1)
    for port in range(1000, 3000):
        other.stack.receive(other.packet("S", 0, ports=(port, PORTS[1]), options=FULL), other.now)
        list(other.stack.frames_to_send())
    assert len(other.stack.connections) == len(listener.opening) == 3
    knock(other)
    other.send(".", 1)
    assert listener.accept(None, other.now) is not None


def test_the_options_of_the_listener_hold_for_a_cookie_as_well() -> None:
    other = peer(timestamps=True, window_scaling=True)
    other.stack.listen(None, PORTS[1], backlog=1, options=Options(mss=600, receive_buffer=1 << 18))
    other.send("S", 0, ports=(1, PORTS[1]))
    synack = knock(other)
    assert (synack.options.mss, synack.options.window_scale) == (600, 2)
    other.send(".", 1)
    *_, connection = other.stack.connections.values()
    assert (connection.sender.mss, connection.rcv_scale) == (588, 2)


def test_a_copy_of_a_syn_that_was_answered_by_a_cookie_does_no_harm() -> None:
    """It may find room in the backlog, and the ACK of the cookie is on its way already."""
    other, listener = under_attack(FAMILIES[0])
    cookie = knock(other)
    ours = other.iss
    other.send("R", 1, ports=(1, PORTS[1]))
    assert other.send("S", 0, options=FULL)
    assert other.iss != ours
    assert [segment.flags for segment in other.send(".", 1, ack=99)] == ["R"]
    other.iss = ours
    assert other.send(".", 1) == []
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert connection.connected
    (answer,) = _sent(other, connection)
    assert answer.brief == (".", 1, 1, 6)
    assert answer.options.timestamp
    assert cookie.options.timestamp
    assert (answer.options.timestamp[0] - cookie.options.timestamp[0]) & 0xFFFFFFFF < 10_000
    assert connection.sender.snd_una == ours + 1


def _sent(other: Peer, connection: Connection) -> list[Segment]:
    connection.send(b"answer", other.now)
    return other.answers()
