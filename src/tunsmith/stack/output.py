"""What a stack sends of its own accord, and what its owner sends that is not TCP: datagrams, ICMP, fragments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunsmith.wire.checksum import ones_sum, partial, pseudo_sum
from tunsmith.wire.icmp import ECHO_REPLY, ECHO_REQUEST, IcmpError, build_error, build_icmp
from tunsmith.wire.ip import DEFAULT_TTL, IPV4, IpFamily, is_unicast
from tunsmith.wire.offload import segment
from tunsmith.wire.udp import CHECKSUM_OFFSET, UDP
from tunsmith.wire.vnet import GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET

if TYPE_CHECKING:
    from tunsmith.stack.config import StackConfig
    from tunsmith.stack.events import Echo
    from tunsmith.stack.ratelimit import RateLimit

Parts = tuple[bytes | memoryview, ...]
Emit = Callable[[Parts], None]

UDP_PROTOCOL = 17


class Output:
    """The sending side of a Stack."""

    config: StackConfig
    wire: Emit
    """Puts a frame on the wire."""
    emit: Emit
    """The same, but during a batch (`Stack.batch`) at its end."""
    drops: Counter[str]
    icmp_errors: RateLimit
    fragment_id: int = 0
    route_mtu: Callable[[bytes], int] | None = None
    """The MTU of the way to an address, where there are several (router.py); None: that of the only link."""

    # --- UDP ---

    def send_datagram(self, family: IpFamily, key: bytes, data: bytes, segment_size: int = 0) -> None:
        """Send UDP payload along `key` (source first). `segment_size` > 0: `data` is several datagrams of
        that size, the last may be shorter; they leave as one super-datagram where the device can. Datagrams longer
        than the MTU leave as fragments."""
        n = family.address_length
        length = 8 + len(data)
        if segment_size >= len(data):
            segment_size = 0
        if length > family.longest:
            self.drops["datagram_too_long"] += 1
            return
        mtu = self.config.mtu if self.route_mtu is None else self.route_mtu(key[n : 2 * n])
        if family.header_length + 8 + (segment_size or len(data)) > mtu:
            step = segment_size or len(data)
            for at in range(0, len(data), step):
                self.send_fragments(
                    family, key, UDP_PROTOCOL, self._whole_udp(family, key, data[at : at + step])
                )
            return
        vnet = VNET.pack(
            NEEDS_CSUM,
            GSO_UDP_L4 if segment_size else GSO_NONE,
            family.header_length + 8 if segment_size else 0,
            segment_size,
            family.header_length,
            CHECKSUM_OFFSET,
        )
        addresses = key[: 2 * n]
        if self.config.path_mtu_discovery:
            ip = family.header(addresses[:n], addresses[n:], UDP_PROTOCOL, length)
        else:
            number = self.next_identification(-(-len(data) // (segment_size or length))) & 0xFFFF
            ip = family.header(
                addresses[:n], addresses[n:], UDP_PROTOCOL, length, identification=number, fragment=0
            )
        ports = int.from_bytes(key[2 * n :], "big")
        udp = UDP.pack(
            ports >> 16, ports & 0xFFFF, length, partial(pseudo_sum(addresses, UDP_PROTOCOL, length))
        )
        self.wire((vnet + ip + udp, data))

    @staticmethod
    def _whole_udp(family: IpFamily, key: bytes, data: bytes) -> bytes:
        length = 8 + len(data)
        ports = key[-4:]
        total = pseudo_sum(key[:-4], UDP_PROTOCOL, length) + ones_sum(
            b"".join((ports, length.to_bytes(2, "big"), b"\0\0", data))
        )
        checksum = 0xFFFF - total % 0xFFFF
        return b"".join((ports, length.to_bytes(2, "big"), checksum.to_bytes(2, "big"), data))

    # --- ICMP ---

    def send_error(
        self,
        family: IpFamily,
        source: bytes,
        destination: bytes,
        error: IcmpError,
        quoted: bytes | memoryview,
        now: float,
        rest: int = 0,
    ) -> None:
        """Tell `destination` that its packet `quoted` failed; rate-limited, never about multicast."""
        if not is_unicast(destination) or not is_unicast(source):
            return
        if not self.icmp_errors.allow(now):
            self.drops["icmp_rate_limited"] += 1
            return
        self.emit((PLAIN, build_error(family, source, destination, error, quoted, rest)))

    def send_datagram_error(
        self, family: IpFamily, key: bytes, error: IcmpError, now: float, *, mtu: int = 0, length: int = 0
    ) -> None:
        """Tell the sender of a datagram along `key` that it failed. The datagram itself is no longer at
        hand: what is quoted is its headers, with `length` bytes of payload said to follow."""
        source, source_port, destination, destination_port = family.split(key)
        quoted = family.header(source, destination, UDP_PROTOCOL, 8 + length) + UDP.pack(
            source_port, destination_port, 8 + length, 0
        )
        self.send_error(family, destination, source, error, quoted, now, mtu)

    def send_echo(self, echo: Echo) -> None:
        """Send a ping, with the TTL it says; that is ignored for one longer than the MTU. The answer goes to
        `Stack.ping_handler`."""
        self._send_echo(echo, ECHO_REQUEST[echo.family], echo.source, echo.destination, echo.ttl)

    def send_echo_reply(self, echo: Echo, ttl: int = DEFAULT_TTL) -> None:
        """Answer a ping. `ttl` is ignored for answers longer than the MTU."""
        self._send_echo(echo, ECHO_REPLY[echo.family], echo.destination, echo.source, ttl)

    def _send_echo(self, echo: Echo, kind: int, source: bytes, destination: bytes, ttl: int) -> None:
        family, rest = echo.family, echo.identifier << 16 | echo.sequence
        packet = build_icmp(family, source, destination, kind, 0, rest, echo.data, ttl)
        if len(packet) > (self.config.mtu if self.route_mtu is None else self.route_mtu(echo.source)):
            key = source + destination + bytes(4)
            self.send_fragments(family, key, family.icmp, packet[family.header_length :])
            return
        self.emit((PLAIN, packet))

    def send_echo_error(
        self, echo: Echo, error: IcmpError, now: float, *, source: bytes | None = None, rest: int = 0
    ) -> None:
        """Tell the sender of a ping that it failed. `source` is who says so, by default the destination;
        `rest` is the rest of the ICMP header (the MTU of TOO_BIG)."""
        family = echo.family
        quoted = build_icmp(
            family,
            echo.source,
            echo.destination,
            ECHO_REQUEST[family],
            0,
            echo.identifier << 16 | echo.sequence,
            echo.data,
        )
        self.send_error(family, source or echo.destination, echo.source, error, quoted, now, rest)

    # --- fragments ---

    def next_identification(self, packets: int = 1) -> int:
        """Of a packet that may be cut on its way, RFC 6864 §4; `packets`: so many that follow each other."""
        identification = self.fragment_id
        self.fragment_id = (identification + packets) & 0xFFFFFFFF
        return identification

    def send_fragments(self, family: IpFamily, key: bytes, protocol: int, payload: bytes) -> None:
        """Send a datagram that is longer than the MTU as fragments: RFC 791 §3.2, RFC 8200 §4.5."""
        n = family.address_length
        source, destination = key[:n], key[n : 2 * n]
        extra = 0 if family is IPV4 else 8
        mtu = self.config.mtu if self.route_mtu is None else self.route_mtu(destination)
        step = (mtu - family.header_length - extra) // 8 * 8
        identification = self.next_identification()
        for offset in range(0, len(payload), step):
            piece = payload[offset : offset + step]
            more = offset + step < len(payload)
            if family is IPV4:
                field = offset // 8 | (0x2000 if more else 0)
                header = family.header(
                    source,
                    destination,
                    protocol,
                    len(piece),
                    identification=identification & 0xFFFF,
                    fragment=field,
                )
            else:
                header = family.header(source, destination, 44, 8 + len(piece))
                header += bytes((protocol, 0)) + (offset | more).to_bytes(2, "big")
                header += identification.to_bytes(4, "big")
            self.wire((PLAIN + header, piece))


class Segmenting:
    """`emit` for a device without offload: super-segments are cut and checksums completed first."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def __call__(self, parts: Parts) -> None:
        for frame in segment(b"".join(parts)):
            self._emit((frame,))
