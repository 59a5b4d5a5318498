"""Pings between the application and an upstream: one echo identifier there for each one here.

Replies and errors go back as they came, from whoever sent them, with the application's own identifier
and sequence. tunsmith is one hop: an echo that may not go further ends at the gateway address, the others
leave with one hop less, so that `traceroute -I` sees us and then the real path.
"""

from __future__ import annotations

import socket
from functools import partial
from ipaddress import ip_address

from tunsmith.config import Network
from tunsmith.dial.base import Dialer, PingFault, PingReply, Pings
from tunsmith.dial.errnos import CONGESTED, dial_error
from tunsmith.errors import DialError, DialProhibited
from tunsmith.flow import Action, Target, Verdict
from tunsmith.relay.faults import icmp_for, words_for
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.poller import IN, Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.events import Echo
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError, meaning_of
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

SESSIONS = 128
"""Identifiers in use at the same time, hence sockets; the longest idle makes room."""
DESTINATIONS = 256
"""Destinations of one identifier that are told apart in reports."""
IDLE = 30.0
"""Seconds without an echo or an answer."""
RECEIVES = 64
"""Upstream reads before other flows get their turn."""


class PingSession:
    """One source and identifier of the application, and its upstream identifier."""

    __slots__ = ("family", "identifier", "last", "pings", "records", "source")

    def __init__(self, family: IpFamily, source: bytes, identifier: int, pings: Pings, now: float) -> None:
        self.family = family
        self.source = source
        self.identifier = identifier
        self.pings = pings
        self.records: dict[bytes, FlowRecord] = {}
        """By destination."""
        self.last = now

    def echo(self, other: bytes, sequence: int, data: bytes) -> Echo:
        """The request to `other` that an answer belongs to."""
        return Echo(self.family, self.source, other, self.identifier, sequence, 0, data)


class PingRelay:
    """All pings of one engine."""

    def __init__(
        self,
        poller: Poller,
        stack: Stack,
        dialer: Dialer,
        network: Network,
        book: FlowBook,
    ) -> None:
        self._poller = poller
        self._stack = stack
        self._dialer = dialer
        self._gateways = {IPV4: network.gateway.packed, IPV6: network.gateway6.packed}
        self._book = book
        self._clock = book.clock
        self._drops = book.drops
        self._sessions: dict[tuple[bytes, int], PingSession] = {}
        """The one used longest ago first."""
        self._told = False

    # --- application to upstream ---

    def on_echo(self, echo: Echo, target: Target, verdict: Verdict) -> None:
        """A ping of the application, to be answered in every case but Action.DROP."""
        if verdict.action is Action.DROP:
            self._drops[verdict.rule] += 1
        elif echo.destination == self._gateways[echo.family]:
            self._stack.send_echo_reply(echo)
        elif echo.ttl <= 1:
            self._fail(echo, IcmpError.TIME_EXCEEDED)
        elif verdict.action is not Action.DIAL or not self._dialer.carries_ping:
            self._drops["ping_refused"] += 1
            self._fail(echo, IcmpError.HOST)
        else:
            session = self._session(echo)
            if session is not None:
                self._send(session, echo, self._record(session, echo, target, verdict))

    def _session(self, echo: Echo) -> PingSession | None:
        key = echo.source, echo.identifier
        session = self._sessions.pop(key, None) or self._open(echo)
        if session is not None:
            self._sessions[key] = session
        return session

    def _open(self, echo: Echo) -> PingSession | None:
        if len(self._sessions) >= SESSIONS:
            self._drops["ping_evicted"] += 1
            self._end(next(iter(self._sessions)))
        try:
            pings = self._dialer.open_pings(socket.AF_INET if echo.family is IPV4 else socket.AF_INET6)
        except DialError as error:
            if isinstance(error, DialProhibited) and not self._told:
                self._told = True
                self._book.notice(str(error))
            self._fail(echo, icmp_for(error) or IcmpError.HOST)
            return None
        session = PingSession(echo.family, echo.source, echo.identifier, pings, self._clock())
        self._poller.watch(pings.fileno(), IN, partial(self._on_readable, session))
        return session

    def _record(self, session: PingSession, echo: Echo, target: Target, verdict: Verdict) -> FlowRecord:
        records = session.records
        record = records.get(echo.destination)
        if record is None:
            if len(records) >= DESTINATIONS:
                self._report(records.pop(next(iter(records))))
            key = echo.family.key(echo.source, echo.identifier, echo.destination, 0)
            record = records[echo.destination] = self._book.enter("icmp", echo.family, key, target, verdict)
        return record

    def _send(self, session: PingSession, echo: Echo, record: FlowRecord) -> None:
        record.up += len(echo.data)
        record.last = session.last = self._clock()
        try:
            session.pings.send(record.target.host, echo.sequence, echo.data, echo.ttl - 1)
        except BlockingIOError:
            self._drops["ping_upstream_full"] += 1
        except OSError as error:
            if error.errno in CONGESTED:
                self._drops["ping_upstream_full"] += 1
                return
            meaning = icmp_for(dial_error(error.errno or 0, record.target)) or IcmpError.HOST
            record.outcome = words_for(meaning)
            self._fail(echo, meaning)

    def _fail(self, echo: Echo, error: IcmpError) -> None:
        gateway = self._gateways[echo.family]
        self._stack.send_echo_error(echo, error, self._clock(), source=gateway)

    # --- upstream to application ---

    def _on_readable(self, session: PingSession, _: int) -> None:
        pings = session.pings
        for _ in range(RECEIVES):
            try:
                self._on_reply(session, pings.receive())
            except BlockingIOError:
                break
            except OSError:
                continue  # the errno of an ICMP error, told in full by the error queue
        for fault in pings.faults():
            self._on_fault(session, fault)

    def _on_reply(self, session: PingSession, reply: PingReply) -> None:
        peer = ip_address(reply.peer).packed
        session.last = self._clock()
        record = session.records.get(peer)
        if record is not None:
            record.down += len(reply.data)
            record.last = session.last
            record.outcome = "answered"
        self._stack.send_echo_reply(session.echo(peer, reply.sequence, reply.data), max(reply.ttl - 1, 1))

    def _on_fault(self, session: PingSession, fault: PingFault) -> None:
        error = meaning_of(session.family, fault.icmp_type, fault.icmp_code)
        if error is None:
            return
        destination = ip_address(fault.destination).packed
        record = session.records.get(destination)
        if record is not None:
            record.outcome = words_for(error)
        self._stack.send_echo_error(
            session.echo(destination, fault.sequence, fault.data),
            error,
            self._clock(),
            source=ip_address(fault.offender).packed if fault.offender else self._gateways[session.family],
            rest=fault.mtu,
        )

    # --- the end ---

    def expire(self, now: float) -> None:
        """Give up identifiers that are no longer in use."""
        for key in [key for key, session in self._sessions.items() if now - session.last >= IDLE]:
            self._end(key)

    def close(self) -> None:
        """End everything."""
        for key in list(self._sessions):
            self._end(key)

    def _end(self, key: tuple[bytes, int]) -> None:
        session = self._sessions.pop(key)
        self._poller.forget(session.pings.fileno())
        session.pings.close()
        for record in session.records.values():
            self._report(record)

    def _report(self, record: FlowRecord) -> None:
        if record.outcome == "open":
            record.outcome = "no answer"
        self._book.end(record)
