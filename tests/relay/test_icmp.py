"""The ping relay between a real stack and a scripted upstream."""

from __future__ import annotations

import errno
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from tunsmith.config import Network
from tunsmith.dial.base import Dialer, PingFault, PingReply, Pings
from tunsmith.dial.direct import DirectDialer
from tunsmith.errors import DialError, DialProhibited, DialUnreachable, Reach
from tunsmith.flow import Action, Target, Verdict
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.icmp import DESTINATIONS, IDLE, SESSIONS, PingRelay
from tunsmith.relay.poller import IN, Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Echo
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import HEADER_LENGTH, ICMP
from tunsmith.wire.ip import IPV4, parse_ip
from tunsmith.wire.vnet import VNET_HDR_LEN

VIA = Verdict(Action.DIAL, "via")
NETWORK = Network()
APP = NETWORK.inside.packed
GATEWAY = NETWORK.gateway.packed
HOST = bytes((192, 0, 2, 7))
ROUTER = bytes((192, 0, 2, 1))
TARGET = Target("192.0.2.7", 0)
ECHO = Echo(IPV4, APP, HOST, identifier=0xABCD, sequence=3, ttl=64, data=b"payload!")


class Readers:
    """As much of a poller as the relay uses."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self.watched[fd] = handler

    def forget(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def readable(self, fd: int) -> None:
        self.watched[fd](IN)


class ScriptedPings:
    """An upstream identifier: what was sent, and what is to come back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.sent: list[tuple[str, int, bytes, int]] = []
        self.incoming: deque[PingReply | OSError] = deque()
        self.errors: list[PingFault] = []
        self.fails: OSError | None = None
        self.closed = False

    def fileno(self) -> int:
        return self._fd

    def send(self, host: str, sequence: int, data: bytes, ttl: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append((host, sequence, data, ttl))

    def receive(self) -> PingReply:
        if not self.incoming:
            raise BlockingIOError
        item = self.incoming.popleft()
        if isinstance(item, OSError):
            raise item
        return item

    def faults(self) -> list[PingFault]:
        faults, self.errors = self.errors, []
        return faults

    def close(self) -> None:
        self.closed = True


class ScriptedDialer(DirectDialer):
    """Hands out `ScriptedPings`, or raises `error`."""

    __slots__ = ("carries_ping", "error", "opened")

    def __init__(self) -> None:
        super().__init__()
        self.carries_ping = True
        self.opened: list[ScriptedPings] = []
        self.error: DialError | None = None

    def open_pings(self, family: int) -> Pings:
        if self.error is not None:
            raise self.error
        self.opened.append(ScriptedPings(len(self.opened)))
        return self.opened[-1]


class Reports:
    def __init__(self) -> None:
        self.ended: list[FlowRecord] = []
        self.notices: list[str] = []

    def flow_ended(self, record: FlowRecord) -> None:
        self.ended.append(record)

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Bench:
    """A relay and everything around it."""

    def __init__(self) -> None:
        self.loop = Readers()
        self.stack = Stack(StackConfig(icmp_burst=10_000, icmp_rate=10_000))
        self.dialer = ScriptedDialer()
        self.reports = Reports()
        self.drops: Counter[str] = Counter()
        self.relay = PingRelay(
            cast(Poller, self.loop),
            self.stack,
            cast(Dialer, self.dialer),
            NETWORK,
            FlowBook("test", None, self.reports, self.drops, time.monotonic),
        )

    def echo(self, echo: Echo = ECHO, verdict: Verdict = VIA) -> ScriptedPings:
        self.relay.on_echo(echo, TARGET, verdict)
        return self.dialer.opened[-1] if self.dialer.opened else ScriptedPings(-1)

    def answer(self) -> tuple[bytes, int, int, int, bytes, int]:
        """The only message to the application: source, type, code, rest of header, body, TTL."""
        (frame,) = self.stack.frames_to_send()
        packet = frame[VNET_HDR_LEN:]
        header = parse_ip(packet)
        assert header.destination == APP
        message = packet[header.header_length :]
        icmp_type, code, _, rest = ICMP.unpack_from(message)
        return header.source, icmp_type, code, rest, message[HEADER_LENGTH:], header.ttl


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_echo_leaves_with_one_hop_less(bench: Bench) -> None:
    pings = bench.echo()
    assert pings.sent == [("192.0.2.7", 3, b"payload!", 63)]


def test_a_reply_gets_the_applications_identifier_and_one_hop_less(bench: Bench) -> None:
    pings = bench.echo()
    pings.incoming.append(PingReply("192.0.2.7", 3, b"payload!", 57))
    bench.loop.readable(pings.fileno())
    assert bench.answer() == (HOST, 0, 0, 0xABCD0003, b"payload!", 56)


def test_a_reply_from_another_host_comes_from_that_host(bench: Bench) -> None:
    pings = bench.echo()
    pings.incoming.append(PingReply("192.0.2.1", 3, b"payload!", 57))
    bench.loop.readable(pings.fileno())
    assert bench.answer()[0] == ROUTER


def test_an_echo_without_hops_left_ends_here(bench: Bench) -> None:
    bench.echo(replace(ECHO, ttl=1))
    source, icmp_type, code, _, quoted, _ = bench.answer()
    assert (source, icmp_type, code) == (GATEWAY, 11, 0)
    assert quotes(quoted, ECHO)
    assert not bench.dialer.opened


@pytest.mark.parametrize(
    ("icmp_type", "code", "mtu"),
    [(3, 0, 0), (3, 1, 0), (3, 13, 0), (3, 4, 1400), (11, 0, 0)],
    ids=["network", "host", "prohibited", "too big", "time exceeded"],
)
def test_an_error_comes_from_its_reporter_and_quotes_the_applications_echo(
    bench: Bench, icmp_type: int, code: int, mtu: int
) -> None:
    pings = bench.echo()
    pings.incoming.append(OSError(errno.EHOSTUNREACH, "pending"))
    pings.errors.append(PingFault("192.0.2.7", 3, "192.0.2.1", icmp_type, code, mtu, b"payl"))
    bench.loop.readable(pings.fileno())
    source, *kind, rest, quoted, _ = bench.answer()
    assert (source, kind, rest) == (ROUTER, [icmp_type, code], mtu)
    assert quotes(quoted, replace(ECHO, data=b"payl"))
    assert pings.fileno() in bench.loop.watched


def test_a_hint_is_no_error(bench: Bench) -> None:
    pings = bench.echo()
    pings.errors.append(PingFault("192.0.2.7", 3, "192.0.2.1", 4, 0, 0, b""))
    bench.loop.readable(pings.fileno())
    assert not list(bench.stack.frames_to_send())


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENETUNREACH, (3, 0)), (errno.EHOSTUNREACH, (3, 1)), (errno.EPERM, (3, 13))]
)
def test_a_local_error_comes_from_the_gateway(bench: Bench, code: int, expected: tuple[int, int]) -> None:
    pings = bench.echo()
    pings.fails = OSError(code, "no")
    bench.echo()
    source, *kind, _, _, _ = bench.answer()
    assert (source, tuple(kind)) == (GATEWAY, expected)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_upstream_loses_the_echo_and_counts_it(bench: Bench, code: int) -> None:
    bench.echo().fails = OSError(code, "full")
    bench.echo()
    assert not list(bench.stack.frames_to_send())
    assert bench.drops["ping_upstream_full"] == 1


def test_upstreams_without_ping_and_refused_addresses_are_unreachable(bench: Bench) -> None:
    bench.echo(verdict=Verdict(Action.REFUSE, "fake address without a name"))
    assert bench.answer()[:3] == (GATEWAY, 3, 1)
    bench.dialer.carries_ping = False
    bench.echo()
    assert bench.answer()[:3] == (GATEWAY, 3, 1)
    assert not bench.dialer.opened


def test_pings_to_many_are_dropped(bench: Bench) -> None:
    bench.echo(verdict=Verdict(Action.DROP, "multicast"))
    assert bench.drops["multicast"] == 1
    assert not list(bench.stack.frames_to_send())


def test_the_gateway_answers_itself_even_with_one_hop_left(bench: Bench) -> None:
    bench.echo(replace(ECHO, destination=GATEWAY, ttl=1), Verdict(Action.REFUSE, "gateway"))
    assert bench.answer()[:4] == (GATEWAY, 0, 0, 0xABCD0003)


def test_a_prohibition_is_told_once_and_every_echo_is_answered(bench: Bench) -> None:
    bench.dialer.error = DialProhibited("not here")
    for _ in range(3):
        bench.echo()
        assert bench.answer()[:3] == (GATEWAY, 3, 13)
    assert bench.reports.notices == ["not here"]


def test_a_missing_family_is_no_notice(bench: Bench) -> None:
    bench.dialer.error = DialUnreachable("no IPv6", Reach.NETWORK)
    bench.echo()
    assert bench.answer()[:3] == (GATEWAY, 3, 0)
    assert not bench.reports.notices


def test_one_upstream_identifier_for_each_identifier_whatever_the_destination(bench: Bench) -> None:
    bench.echo()
    bench.echo(replace(ECHO, destination=ROUTER, sequence=4))
    bench.echo(replace(ECHO, identifier=1))
    assert [len(pings.sent) for pings in bench.dialer.opened] == [2, 1]


def test_sockets_are_bounded_and_the_longest_idle_goes_first(bench: Bench) -> None:
    for identifier in range(SESSIONS):
        bench.echo(replace(ECHO, identifier=identifier))
    bench.echo(replace(ECHO, identifier=0))
    bench.echo(replace(ECHO, identifier=SESSIONS))
    closed = [pings.fileno() for pings in bench.dialer.opened if pings.closed]
    assert closed == [1]
    assert len(bench.loop.watched) == SESSIONS


def test_records_of_one_identifier_are_bounded(bench: Bench) -> None:
    for number in range(DESTINATIONS + 5):
        bench.echo(replace(ECHO, destination=bytes((10, 0, number >> 8, number & 255))))
    assert len(bench.reports.ended) == 5


def test_idle_identifiers_are_given_up(bench: Bench) -> None:
    before = time.monotonic()
    pings = bench.echo()
    bench.relay.expire(before + IDLE - 0.001)
    kept = not pings.closed
    bench.relay.expire(time.monotonic() + IDLE)
    assert (kept, pings.closed) == (True, True)
    assert not bench.loop.watched
    assert [record.outcome for record in bench.reports.ended] == ["no answer"]


def test_records_tell_what_became_of_a_ping(bench: Bench) -> None:
    pings = bench.echo()
    bench.echo(replace(ECHO, destination=ROUTER))
    pings.incoming.append(PingReply("192.0.2.7", 3, b"payload!", 57))
    pings.errors.append(PingFault("192.0.2.1", 3, "192.0.2.9", 11, 0, 0, b""))
    bench.loop.readable(pings.fileno())
    bench.relay.close()
    told = [
        (str(record.destination), record.outcome, record.up, record.down) for record in bench.reports.ended
    ]
    assert told == [("192.0.2.7:0", "answered", 8, 8), ("192.0.2.1:0", "time exceeded", 8, 0)]


def quotes(quoted: bytes, echo: Echo) -> bool:
    """Whether this is `echo` as the application sent it."""
    header = parse_ip(quoted)
    icmp_type, _, _, rest = ICMP.unpack_from(quoted, header.header_length)
    return (header.source, header.destination, icmp_type, rest, quoted[header.header_length + 8 :]) == (
        echo.source,
        echo.destination,
        8,
        echo.identifier << 16 | echo.sequence,
        echo.data,
    )
