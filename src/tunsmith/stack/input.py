"""The careful path into the stack: whatever is not a plain TCP or UDP packet.

IPv4 options are stepped over (source routes refused, RFC 7126), IPv6 extension headers walked, fragments
put together; what comes out is a plain packet that takes the fast path like any other. ICMP ends here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tunsmith.errors import WireError
from tunsmith.stack.events import DatagramError, Echo
from tunsmith.stack.extensions import (
    ERRONEOUS_FIELD,
    UNKNOWN_HEADER,
    Fragment,
    ParameterProblem,
    carries_error,
    walk,
)
from tunsmith.stack.reassembly import Reassembler
from tunsmith.stack.tcp.timers import NEVER
from tunsmith.wire.checksum import ones_sum, pseudo_sum
from tunsmith.wire.icmp import (
    ECHO_REPLY,
    ECHO_REQUEST,
    HEADER_LENGTH,
    ICMP,
    IcmpError,
    build_icmp,
    is_error,
    meaning_of,
)
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, IpHeader, is_unicast, parse_ip
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

if TYPE_CHECKING:
    from tunsmith.stack.stack import Stack

TCP, UDP = 6, 17
SOURCE_ROUTES = (131, 137)
"""IPv4 options LSRR and SSRR: dropped, RFC 7126 §4.3, §4.4."""

FATAL_WHILE_OPENING = {
    IcmpError.NETWORK: errno.ENETUNREACH,
    IcmpError.HOST: errno.EHOSTUNREACH,
    IcmpError.PORT: errno.ECONNREFUSED,
    IcmpError.PROTOCOL: errno.ECONNREFUSED,
    IcmpError.PROHIBITED: errno.EHOSTUNREACH,
    IcmpError.TIME_EXCEEDED: errno.EHOSTUNREACH,
}


class Input:
    """Reassembly and ICMP of one stack. A Timed: its timer is the reassembly deadline."""

    __slots__ = ("__weakref__", "reassembler", "scheduled", "stack", "timers")

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.reassembler = Reassembler(stack.drops)
        self.timers = [NEVER]
        self.scheduled = NEVER

    def verify(
        self, family: IpFamily, frame: memoryview, start: int, end: int, key: bytes, protocol: int
    ) -> bool:
        """Check the IPv4 header and, unless the text is empty, the upper-layer checksum over [start, end).
        Counts a failure."""
        drops = self.stack.drops
        if family is IPV4 and ones_sum(frame[VNET_HDR_LEN:start]):
            drops["ip_checksum"] += 1
            return False
        if (
            start < end
            and (pseudo_sum(key[:-4], protocol, end - start) + ones_sum(frame[start:end])) % 0xFFFF
        ):
            drops["tcp_checksum" if protocol == TCP else "udp_checksum"] += 1
            return False
        return True

    def receive(self, frame: memoryview, now: float) -> None:
        """A frame off the fast path, cut to its length."""
        stack = self.stack
        packet = frame[VNET_HDR_LEN:]
        try:
            header = parse_ip(packet)
        except WireError as error:
            stack.drops[error.reason] += 1
            return
        if not is_unicast(header.source):  # RFC 1122 §3.2.1.3
            stack.drops["martian"] += 1
            return
        if stack.addresses is not None and header.destination not in stack.addresses:
            stack.drops["not_our_address"] += 1
            return
        packet = packet[: header.total_length]
        try:
            if header.family is IPV4:
                self._receive_ipv4(frame, packet, header, now)
            else:
                self._receive_ipv6(frame, packet, header, now)
        except ParameterProblem as problem:
            self._parameter_problem(header, packet, problem, now)
        except _UnknownProtocol as error:
            stack.drops[error.reason] += 1
            if not header.fragment_offset:
                stack.send_error(
                    IPV4, header.destination, header.source, IcmpError.PROTOCOL, packet.tobytes(), now
                )
        except WireError as error:
            stack.drops[error.reason] += 1

    def _parameter_problem(
        self, header: IpHeader, packet: memoryview, problem: ParameterProblem, now: float
    ) -> None:
        """Count a fault and tell its sender: ICMPv6 type 4 with the code of the fault, or ICMP type 12. Never about
        multicast (RFC 4443 §2.4 e.3 would allow it for unknown options, but we have no address to answer from)."""
        stack = self.stack
        stack.drops[problem.reason] += 1
        if not is_unicast(header.destination) or header.fragment_offset or carries_error(header, packet):
            return
        if header.family is IPV4:
            ends, pointer = (header.destination, header.source), problem.pointer << 24
            stack.send_error(IPV4, *ends, IcmpError.PARAMETER, packet.tobytes(), now, pointer)
            return
        if not stack.icmp_errors.allow(now):
            stack.drops["icmp_rate_limited"] += 1
            return
        quoted = packet[: IPV6.minimum_mtu - IPV6.header_length - HEADER_LENGTH]
        answer = build_icmp(IPV6, header.destination, header.source, 4, problem.code, problem.pointer, quoted)
        stack.emit((PLAIN, answer))

    def _receive_ipv4(self, frame: memoryview, packet: memoryview, header: IpHeader, now: float) -> None:
        length = header.header_length
        if any(kind in SOURCE_ROUTES for kind in _ipv4_options(packet[20:length])):
            raise WireError("ip_source_route")
        payload = packet[length:]
        if header.fragment_offset or header.more_fragments:
            whole = self._reassemble(
                header.source + header.destination + packet[4:6].tobytes() + packet[9:10].tobytes(),
                packet[:length],
                Fragment(header.fragment_offset, header.more_fragments, header.identification),
                payload,
                now,
            )
            if whole is None:
                return
            header.traffic_class = whole[0][1]
            self._pass_on(header, header.protocol, memoryview(whole[1]), PLAIN, now)
            return
        self._pass_on(header, header.protocol, payload, bytes(frame[:VNET_HDR_LEN]), now)

    def _receive_ipv6(self, frame: memoryview, packet: memoryview, header: IpHeader, now: float) -> None:
        chain = walk(packet, multicast=header.destination[0] == 0xFF)
        vnet = bytes(frame[:VNET_HDR_LEN])
        if chain.fragment is not None:
            key = header.source + header.destination + chain.fragment.identification.to_bytes(4, "big")
            at = chain.offset
            whole = self._reassemble(key, packet[:at], chain.fragment, packet[at:], now)
            if whole is None:
                return
            header.traffic_class = (whole[0][0] & 15) << 4 | whole[0][1] >> 4
            self._receive_reassembled(header, memoryview(b"".join(whole)), len(whole[0]), now)
            return
        self._pass_on(header, chain.protocol, packet[chain.offset :], vnet, now, chain.named_at)

    def _receive_reassembled(self, header: IpHeader, packet: memoryview, at: int, now: float) -> None:
        """An IPv6 packet that came in fragments; the fragment header still ends at `at`. The first fragment has been
        walked to its upper layer, so that no other fragment header follows."""
        try:
            chain = walk(packet, at - 8, at)
            self._pass_on(header, chain.protocol, packet[chain.offset :], PLAIN, now, chain.named_at)
        except ParameterProblem as problem:
            self._parameter_problem(header, packet, problem, now)

    def _reassemble(
        self,
        key: bytes,
        header: memoryview,
        fragment: Fragment,
        payload: memoryview,
        now: float,
    ) -> tuple[bytes, bytes] | None:
        whole = self.reassembler.add(key, header, fragment.offset, fragment.more, payload, now)
        self._arm()
        return whole

    def _arm(self) -> None:
        due = self.reassembler.next_deadline()
        self.timers[0] = NEVER if due is None else due
        self.stack.deadlines.schedule(self, self.timers[0])

    def on_timeout(self, now: float) -> None:
        """Datagrams that never became whole: time exceeded, if their beginning came (RFC 792, RFC 4443 §3.3)."""
        for quoted in self.reassembler.expire(now):
            header = parse_ip(quoted)
            if not carries_error(header, quoted):
                ends = header.destination, header.source
                self.stack.send_error(header.family, *ends, IcmpError.REASSEMBLY, quoted, now)
        self._arm()

    def _pass_on(
        self, header: IpHeader, protocol: int, payload: memoryview, vnet: bytes, now: float, named_at: int = 6
    ) -> None:
        """A whole payload: TCP and UDP go back to the fast path behind a plain header."""
        family = header.family
        if protocol in (TCP, UDP):
            plain = family.header(
                header.source,
                header.destination,
                protocol,
                len(payload),
                traffic_class=header.traffic_class,
                ttl=header.ttl,
            )
            self.stack.receive(plain + bytes(payload), now, vnet=vnet)
        elif protocol == family.icmp:
            self._receive_icmp(header, payload, now)
        elif family is IPV4:
            raise _UnknownProtocol("protocol_unknown")
        else:
            raise ParameterProblem("protocol_unknown", UNKNOWN_HEADER, named_at)

    def _receive_icmp(self, header: IpHeader, message: memoryview, now: float) -> None:
        family = header.family
        if len(message) < HEADER_LENGTH:
            raise WireError("icmp_short")
        total = ones_sum(message)
        if family is IPV6:
            total += pseudo_sum(header.source + header.destination, family.icmp, len(message))
        if total % 0xFFFF:
            raise WireError("icmp_checksum")
        icmp_type, code, _, rest = ICMP.unpack_from(message)
        if icmp_type == ECHO_REQUEST[family] and is_unicast(header.destination):
            self.stack.handler.on_echo(_echo(header, rest, message))
        elif icmp_type == ECHO_REPLY[family] and self.stack.ping_handler is not None:
            self.stack.ping_handler.on_echo_reply(_echo(header, rest, message))
        elif is_error(family, icmp_type):
            self._receive_error(family, icmp_type, code, rest, message[HEADER_LENGTH:], now)
        else:
            self.stack.drops["icmp_ignored"] += 1

    def _receive_error(
        self, family: IpFamily, icmp_type: int, code: int, rest: int, quoted: memoryview, now: float
    ) -> None:
        """An error about a packet of ours; the quote must name a flow we have (RFC 5927 §4)."""
        n = family.header_length
        if len(quoted) < n + 8 or quoted[0] != (0x45 if family is IPV4 else quoted[0] & 15 | 0x60):
            raise WireError("icmp_quote")
        if family is IPV4 and (quoted[6] & 0x1F or quoted[7]):  # no ports in a later fragment
            raise WireError("icmp_quote")
        protocol = quoted[9] if family is IPV4 else quoted[6]
        addresses_at = n - 2 * family.address_length
        key = bytes(quoted[addresses_at : n + 4])
        error = meaning_of(family, icmp_type, code)
        mtu = 0
        if error is IcmpError.TOO_BIG:
            mtu = (rest & 0xFFFF if family is IPV4 else rest) or family.minimum_mtu
        if protocol == TCP:
            connection = self.stack.connections.get(family.swap(key))
            if connection is None:
                raise WireError("icmp_no_connection")
            seq = int.from_bytes(quoted[n + 4 : n + 8], "big")
            if error is None:
                return
            connection.on_icmp_error(FATAL_WHILE_OPENING.get(error, errno.EHOSTUNREACH), seq, mtu, now)
        elif protocol == UDP:
            self.stack.handler.on_datagram_error(DatagramError(family, *family.split(key), error, mtu))
        elif (
            protocol == family.icmp
            and quoted[n] == ECHO_REQUEST[family]
            and self.stack.ping_handler is not None
        ):
            rest = int.from_bytes(quoted[n + 4 : n + 8], "big")
            ends = key[: family.address_length], key[family.address_length : -4]
            self.stack.ping_handler.on_echo_error(
                Echo(family, *ends, rest >> 16, rest & 0xFFFF, 0, b""), error
            )


def _echo(header: IpHeader, rest: int, message: memoryview) -> Echo:
    return Echo(
        header.family,
        header.source,
        header.destination,
        rest >> 16,
        rest & 0xFFFF,
        header.ttl,
        bytes(message[HEADER_LENGTH:]),
    )


class _UnknownProtocol(WireError):
    """A whole IPv4 packet of a protocol we do not speak."""


def _ipv4_options(options: memoryview) -> list[int]:
    """The option kinds in an IPv4 header. Raises ParameterProblem for a list that does not add up, RFC 1122
    §3.2.2.5."""
    kinds: list[int] = []
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= len(options) or not 2 <= options[at + 1] <= len(options) - at:
            raise ParameterProblem("ip_options", ERRONEOUS_FIELD, IPV4.header_length + at + 1)
        kinds.append(options[at])
        at += options[at + 1]
    return kinds
