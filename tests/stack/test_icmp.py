from __future__ import annotations

import errno

import pytest

from tests.stack.packets import FAMILIES, HOST, STACK, name, ping, sent, udp_datagram
from tests.stack.tcp.losses import MSS, RTT, ack, flight, phase, segments, take, troubled
from tests.stack.tcp.peer import Peer, peer
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import DatagramError, Echo
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.recovery import Phase
from tunsmith.wire.icmp import ECHO_REPLY, IcmpError, build_error, build_icmp
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip
from tunsmith.wire.vnet import VNET_HDR_LEN

both = pytest.mark.parametrize("family", FAMILIES, ids=name)
TOO_BIG = IcmpError.TOO_BIG


def echo_of(stack: Stack, whole: bytes) -> Echo:
    stack.receive(whole, 1.0)
    event = stack.poll_event()
    assert isinstance(event, Echo)
    return event


# --- echo ---


@both
def test_a_ping_is_told_and_answered_with_what_it_said(family: IpFamily) -> None:
    stack = Stack()
    echo = echo_of(stack, ping(family, b"hello", 7, 3))
    assert (echo.source, echo.destination) == (HOST[family], STACK[family])
    assert (echo.identifier, echo.sequence, echo.data) == (7, 3, b"hello")
    stack.send_echo_reply(echo)
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[family], HOST[family])
    assert payload[:2] == bytes((ECHO_REPLY[family], 0))
    assert payload[4:] == b"\0\x07\0\x03hello"


@both
def test_a_reply_longer_than_the_mtu_leaves_in_fragments(family: IpFamily) -> None:
    stack, host = Stack(), Stack()
    stack.send_echo_reply(echo_of(stack, ping(family, bytes(4000))))
    frames = list(stack.frames_to_send())
    assert len(frames) == 3
    for frame in frames:
        host.receive(frame[VNET_HDR_LEN:], 1.0)
    assert host.drops == {"icmp_ignored": 1}  # an echo reply, whole


@both
def test_a_reply_that_just_fits_leaves_whole(family: IpFamily) -> None:
    stack = Stack()
    stack.send_echo_reply(echo_of(stack, ping(family, bytes(1500 - family.header_length - 8))))
    ((header, _),) = sent(stack)
    assert header.total_length == 1500


@both
def test_a_ping_to_a_group_is_not_told(family: IpFamily) -> None:
    stack = Stack()
    group = b"\xe0\0\0\x01" if family is IPV4 else b"\xff\x02" + bytes(13) + b"\x01"
    stack.receive(build_icmp(family, HOST[family], group, 8 if family is IPV4 else 128, 0, 0, b""), 1.0)
    assert stack.poll_event() is None
    assert stack.drops == {"icmp_ignored": 1}


@both
def test_a_failed_ping_is_told_with_the_ping_in_the_quote(family: IpFamily) -> None:
    stack = Stack()
    whole = ping(family, b"hello")
    stack.send_echo_error(echo_of(stack, whole), IcmpError.HOST, 1.0)
    ((_, payload),) = sent(stack)
    assert tuple(payload[:2]) == IcmpError.HOST.code(family)
    assert payload[8 + family.header_length :] == whole[family.header_length :]


@both
def test_icmp_with_a_wrong_checksum_or_cut_short_is_dropped(family: IpFamily) -> None:
    stack = Stack()
    broken = bytearray(ping(family))
    broken[-1] ^= 1
    stack.receive(bytes(broken), 1.0)
    stack.receive(family.header(HOST[family], STACK[family], family.icmp, 7) + bytes(7), 1.0)
    assert stack.drops == {"icmp_checksum": 1, "icmp_short": 1}


# --- pings of our own ---


class Pinger:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.replies: list[Echo] = []
        self.errors: list[tuple[Echo, IcmpError | None]] = []

    def on_echo_reply(self, echo: Echo) -> None:
        self.replies.append(echo)

    def on_echo_error(self, echo: Echo, error: IcmpError | None) -> None:
        self.errors.append((echo, error))


def pinging(family: IpFamily) -> tuple[Stack, Pinger, bytes]:
    """A stack, the owner of its pings, and the packet of one that has left it with a TTL of 9."""
    stack, pinger = Stack(), Pinger()
    stack.ping_handler = pinger
    stack.send_echo(Echo(family, STACK[family], HOST[family], 7, 3, 9, b"hello"))
    (frame,) = stack.frames_to_send()
    return stack, pinger, frame[VNET_HDR_LEN:]


@both
def test_our_ping_leaves_as_asked_and_its_answer_is_told(family: IpFamily) -> None:
    stack, pinger, whole = pinging(family)
    asked = parse_ip(whole)
    assert (asked.source, asked.destination, asked.ttl) == (STACK[family], HOST[family], 9)
    host = Stack()
    host.send_echo_reply(echo_of(host, whole), ttl=33)
    (frame,) = host.frames_to_send()
    stack.receive(frame[VNET_HDR_LEN:], 1.0)
    assert pinger.replies == [Echo(family, HOST[family], STACK[family], 7, 3, 33, b"hello")]
    assert stack.poll_event() is None


@both
def test_an_error_about_our_ping_is_told_as_far_as_it_quotes(family: IpFamily) -> None:
    stack, pinger, whole = pinging(family)
    error = build_error(family, HOST[family], STACK[family], IcmpError.TIME_EXCEEDED, whole)
    stack.receive(error, 1.0)
    quoted = Echo(family, STACK[family], HOST[family], 7, 3, 0, b"")
    assert pinger.errors == [(quoted, IcmpError.TIME_EXCEEDED)]


@both
def test_pings_that_nobody_owns_are_not_told_of(family: IpFamily) -> None:
    stack, pinger, whole = pinging(family)
    stack.ping_handler = None
    stack.receive(build_error(family, HOST[family], STACK[family], IcmpError.HOST, whole), 1.0)
    stack.receive(build_icmp(family, HOST[family], STACK[family], ECHO_REPLY[family], 0, 0, b""), 1.0)
    assert (pinger.replies, pinger.errors, stack.poll_event()) == ([], [], None)
    assert stack.drops == {"icmp_ignored": 1}


# --- errors that we send ---


@both
def test_a_quote_keeps_the_error_within_the_minimum_mtu(family: IpFamily) -> None:
    stack = Stack()
    whole = family.header(HOST[family], STACK[family], 17, 9000) + bytes(9000)
    stack.send_error(family, STACK[family], HOST[family], IcmpError.PORT, whole, 1.0)
    ((header, payload),) = sent(stack)
    assert header.total_length == family.minimum_mtu
    assert payload[8:] == whole[: len(payload) - 8]


@both
def test_an_error_about_a_datagram_quotes_its_headers(family: IpFamily) -> None:
    stack = Stack()
    key = family.key(HOST[family], 5000, STACK[family], 53)
    stack.send_datagram_error(family, key, IcmpError.PORT, 1.0, length=300)
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[family], HOST[family])
    assert tuple(payload[:2]) == IcmpError.PORT.code(family)
    quoted = payload[8:]
    assert quoted[family.header_length :][:6] == udp_datagram(family, bytes(300))[:6]
    assert parse_ip(quoted + bytes(300)).total_length == family.header_length + 308


@both
def test_errors_are_bounded_and_the_rest_is_counted__rfc4443_2_4(family: IpFamily) -> None:
    stack = Stack(StackConfig(icmp_rate=2.0, icmp_burst=3.0))
    key = family.key(HOST[family], 5000, STACK[family], 53)
    for _ in range(10):
        stack.send_datagram_error(family, key, IcmpError.PORT, 1.0)
    assert len(sent(stack)) == 3
    assert stack.drops == {"icmp_rate_limited": 7}


@both
def test_no_error_to_a_group(family: IpFamily) -> None:
    stack = Stack()
    group = b"\xe0\0\0\x01" if family is IPV4 else b"\xff\x02" + bytes(13) + b"\x01"
    stack.send_error(family, STACK[family], group, IcmpError.PORT, b"", 1.0)
    stack.send_error(family, group, HOST[family], IcmpError.PORT, b"", 1.0)
    assert not sent(stack)


@both
def test_an_unreachable_flow_is_told_with_its_syn_in_the_quote(family: IpFamily) -> None:
    other = peer(family=family)
    request = other.request()
    request.unreachable(IcmpError.HOST, other.now)
    ((header, payload),) = sent(other.stack)
    assert tuple(payload[:2]) == IcmpError.HOST.code(family)
    syn = payload[8 + family.header_length :]
    assert syn[:8] == other.packet("S", 0)[family.header_length :][:8]
    assert header.destination == HOST[family]


# --- errors that we are sent ---


def complain(
    other: Peer,
    error: IcmpError,
    seq: int,
    *,
    rest: int = 0,
    length: int = 60,
    protocol: int = 6,
    ports: tuple[int, int] = (80, 40000),
    cut: int | None = None,
) -> list[str]:
    """Tell the stack that a segment of its, at relative `seq`, failed; returns what its owner was told."""
    family = other.family
    text = b"".join(port.to_bytes(2, "big") for port in ports)
    text += ((other.iss + seq) & 0xFFFFFFFF).to_bytes(4, "big")
    quoted = family.header(other.destination, other.source, protocol, length) + text
    message = build_error(family, other.source, other.destination, error, quoted[:cut], rest)
    other.stack.receive(message, other.now)
    return other.events()


@both
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IcmpError.NETWORK, errno.ENETUNREACH),
        (IcmpError.HOST, errno.EHOSTUNREACH),
        (IcmpError.PORT, errno.ECONNREFUSED),
        (IcmpError.PROHIBITED, errno.EHOSTUNREACH),
        (IcmpError.TIME_EXCEEDED, errno.EHOSTUNREACH),
    ],
)
def test_an_error_about_our_syn_ends_the_opening(family: IpFamily, error: IcmpError, code: int) -> None:
    other = peer(family=family)
    other.open()
    assert complain(other, error, 0) == [f"closed {code}"]


@both
def test_an_error_is_no_end_of_an_established_connection__rfc5927_5_2(family: IpFamily) -> None:
    other = peer(family=family)
    other.establish()
    other.take(b"text")
    assert complain(other, IcmpError.PORT, 1) == []
    assert other.state == "ESTABLISHED"


@both
@pytest.mark.parametrize("seq", [0, 101, 5000, -5000])
def test_a_quote_of_what_is_not_in_flight_is_ignored__rfc5927_4_1(family: IpFamily, seq: int) -> None:
    other = peer(family=family)
    other.establish()
    other.take(bytes(100))
    complain(other, TOO_BIG, seq, rest=1300)
    assert other.connection.sender.mss == (1460 if family is IPV4 else 1440)
    assert other.stack.drops["icmp_quote_outside_window"] == 1


@both
def test_a_quote_of_somebody_else_is_counted(family: IpFamily) -> None:
    other = peer(family=family)
    other.open()
    assert complain(other, IcmpError.PORT, 0, ports=(80, 40001)) == []
    assert complain(other, IcmpError.PORT, 0, cut=family.header_length + 7) == []
    assert other.stack.drops == {"icmp_no_connection": 1, "icmp_quote": 1}


def test_a_quote_of_a_later_fragment_has_no_ports() -> None:
    other = peer()
    other.open()
    quoted = IPV4.header(other.destination, other.source, 6, 60, fragment=100) + bytes(20)
    other.stack.receive(build_error(IPV4, other.source, other.destination, IcmpError.PORT, quoted), 1.0)
    assert other.stack.drops == {"icmp_quote": 1}


@both
def test_a_narrow_path_makes_segments_smaller_and_sends_again__rfc1191(family: IpFamily) -> None:
    other = peer(family=family)
    other.establish()
    (big,) = other.take(bytes(4000))
    assert big.gso_size == (1460 if family is IPV4 else 1440)
    complain(other, TOO_BIG, 1, rest=1300)
    (again,) = other.answers()
    assert again.seq == 1
    assert again.gso_size == 1300 - family.header_length - 20
    assert again.data == bytes(4000)
    assert other.connection.sender.timeouts == 0


def test_a_narrow_path_and_a_closed_window_at_once() -> None:
    other = peer()
    other.establish()
    other.take(bytes(4000))
    other.send(".", 1, window=0)
    complain(other, TOO_BIG, 1, rest=1300)
    assert other.answers() == []
    (probe,) = other.tick()
    assert (probe.seq, len(probe.data)) == (1, 1)
    (text,) = other.send(".", 1, window=65535)
    assert text.data == bytes(4000)


def test_what_was_sacked_fitted_and_is_not_sent_again() -> None:
    other = troubled()
    take(other, 8)
    ack(other, 0, (2, 4))
    complain(other, TOO_BIG, 1, rest=1300)
    assert segments(other.answers()) == [(".", 0, 2), (".", 4, 4)]
    assert flight(other) == (6, 2, 0)


def test_a_narrow_path_in_a_recovery_loses_nothing_twice() -> None:
    other = troubled(sack=False)
    take(other, 10)
    for _ in range(3):
        ack(other, 0)
    other.send(".", 1, window=3 * MSS)
    complain(other, TOO_BIG, 1, rest=1300)
    assert sum(len(segment.data) for segment in other.answers()) == 3 * MSS
    assert flight(other) == (3, 0, 7)
    other.send(".", 1, ack=1 + 3 * MSS, window=0)
    assert (phase(other), flight(other)) == (Phase.RECOVERY, (0, 0, 7))


def test_a_probe_that_did_not_fit_tells_of_no_congestion__rfc8985_7_4() -> None:
    other = troubled(tlp=True, rack=True)
    take(other, 5)
    assert segments(other.tick()) == [(".", 4, 1)]
    cwnd = other.connection.sender.cc.cwnd
    complain(other, TOO_BIG, 1, rest=1300)
    other.answers()
    take(other, 2)
    other.now += RTT
    ack(other, 5)
    ack(other, 7)
    assert phase(other) is None
    assert other.connection.sender.cc.cwnd >= cwnd


def test_a_wider_path_than_known_changes_nothing() -> None:
    other = peer()
    other.establish()
    other.take(bytes(4000))
    complain(other, TOO_BIG, 1, rest=9000)
    assert other.answers() == []
    assert other.connection.sender.mss == 1460


@pytest.mark.parametrize("stamp", [None, 5])
@pytest.mark.parametrize(("mtu", "again"), [(1500, False), (1499, True)])
def test_the_path_we_know_is_no_news(mtu: int, again: bool, stamp: int | None) -> None:
    other = peer(timestamps=True)
    other.stamp = stamp
    other.establish()
    (big,) = other.take(bytes(4000))
    complain(other, TOO_BIG, 1, rest=mtu)
    answers = other.answers()
    assert [answer.gso_size for answer in answers] == ([big.gso_size - 1] if again else [])


def test_an_old_router_that_names_no_mtu_means_the_minimum() -> None:
    other = peer()
    other.establish()
    other.take(bytes(4000))
    complain(other, TOO_BIG, 1)
    assert other.connection.sender.mss == 536


def test_an_ipv6_path_is_never_narrower_than_the_minimum__rfc8201() -> None:
    other = peer(family=IPV6)
    other.establish()
    other.take(bytes(4000))
    complain(other, TOO_BIG, 1, rest=100)
    assert other.connection.sender.mss == 1280 - 60


@pytest.mark.parametrize("state", ["SYN-SENT", "SYN-RECEIVED"])
def test_a_narrow_path_while_opening_is_nonsense(state: str) -> None:
    other = peer()
    if state == "SYN-SENT":
        other.open()
    else:
        other.knock()
    assert complain(other, TOO_BIG, 0, rest=600) == []
    assert other.answers() == []
    assert other.state == state


def test_a_hint_is_no_error() -> None:
    other = peer()
    other.open()
    quoted = IPV4.header(other.destination, other.source, 6, 60) + b"\0\x50\x9c\x40" + bytes(4)
    redirect = build_icmp(IPV4, other.source, other.destination, 5, 1, 0, quoted)
    other.stack.receive(redirect, other.now)
    assert other.state == "SYN-SENT"
    assert other.stack.drops == {}


@both
def test_an_error_about_a_datagram_is_told(family: IpFamily) -> None:
    stack = Stack()
    quoted = family.header(STACK[family], HOST[family], 17, 20) + b"\0\x35\x13\x88" + bytes(4)
    stack.receive(build_error(family, HOST[family], STACK[family], IcmpError.PORT, quoted), 1.0)
    assert stack.poll_event() == DatagramError(family, STACK[family], 53, HOST[family], 5000, IcmpError.PORT)


@both
@pytest.mark.parametrize(("told", "mtu"), [(1300, 1300), (0, None)])
def test_who_sends_datagrams_is_told_how_narrow_the_path_is__rfc1191(
    family: IpFamily, told: int, mtu: int | None
) -> None:
    stack = Stack()
    quoted = family.header(STACK[family], HOST[family], 17, 20) + b"\0\x35\x13\x88" + bytes(4)
    stack.receive(build_error(family, HOST[family], STACK[family], TOO_BIG, quoted, told), 1.0)
    event = stack.poll_event()
    assert isinstance(event, DatagramError)
    assert (event.error, event.mtu) == (TOO_BIG, mtu or family.minimum_mtu)


@both
def test_an_error_about_anything_else_is_nothing(family: IpFamily) -> None:
    stack = Stack()
    quoted = family.header(STACK[family], HOST[family], 132, 20) + bytes(20)
    stack.receive(build_error(family, HOST[family], STACK[family], IcmpError.PORT, quoted), 1.0)
    assert stack.poll_event() is None
    assert not sent(stack)
