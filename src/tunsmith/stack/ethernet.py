"""An Ethernet station: what stands between IP frames and a device that carries Ethernet.

    device ──▶ receive ─┬─ IPv4, IPv6 ──▶ deliver          the frame without its Ethernet header
                        ├─ ARP ─────────┐
                        └─ NDP ─────────┴─▶ neighbours.py, addresses.py ──▶ answers, probes
    send(next hop) ──▶ group address | neighbour's MAC | waits in neighbours.py ──▶ write

Frames keep their virtio header, so super-segments stay whole: only the offsets in it move by the length of the
Ethernet header. On the way in nothing is copied: the virtio header moves up to the packet, over the Ethernet
header that has been read.

A station belongs to one VLAN. Where that is 0, frames are untagged, and those that only carry a priority are
taken (802.1Q §6.9.1); otherwise all carry its tag. Frames of other VLANs are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tunsmith.errors import WireError
from tunsmith.stack.addresses import AddressBook, OnConflict
from tunsmith.stack.deadlines import Deadlines
from tunsmith.stack.neighbours import NeighbourCache
from tunsmith.stack.output import Emit, Parts
from tunsmith.wire import arp, ndp
from tunsmith.wire.arp import Arp, build_arp, parse_arp
from tunsmith.wire.ethernet import (
    BROADCAST,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    build_ethernet,
    group_mac,
    is_group,
    parse_ethernet,
)
from tunsmith.wire.ip import IPV6, is_unicast, parse_ip
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN, moved

Deliver = Callable[[memoryview, int, float], None]
"""As Stack.receive_frame."""
Unreachable = Callable[[bytes, bool], None]
"""Called with a frame whose neighbour does not answer, and whether it was forwarded."""

_NEXT_HEADER = VNET_HDR_LEN + 6
_ICMP_TYPE = VNET_HDR_LEN + 40
_IP_ETHERTYPES = frozenset({ETHERTYPE_IPV4, ETHERTYPE_IPV6})


class Station:
    """One station with the address `mac`. `source_for(neighbour)` chooses the address that questions come from.

    Counts what it drops: `ethernet_short`, `ethernet_other` (not for us), `ethernet_source`, `ethernet_group` (one
    host's packet in everybody's frame), `ethertype`,
    `vlan`, `ndp_ignored`, and the words of parse_arp and parse_ndp."""

    def __init__(
        self,
        mac: bytes,
        write: Emit,
        *,
        deliver: Deliver,
        unreachable: Unreachable,
        source_for: Callable[[bytes], bytes | None],
        clock: Callable[[], float],
        deadlines: Deadlines,
        drops: Counter[str],
        vlan: int = 0,
        router: bool = False,
        on_conflict: OnConflict | None = None,
    ) -> None:
        self.mac = mac
        self.vlan = vlan
        self.broadcasts: frozenset[bytes] = frozenset()
        """The directed broadcast addresses of our networks."""
        self.neighbours = NeighbourCache(self, deadlines, drops)
        self.addresses = AddressBook(self, deadlines, drops, on_conflict)
        self.unreachable = unreachable
        self._write = write
        self._deliver = deliver
        self._source_for = source_for
        self._clock = clock
        self._drops = drops
        self._router = router
        self._tails = {
            ethertype: build_ethernet(b"", mac, ethertype, vlan)[6:]
            for ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP)
        }
        """Ethernet headers without their destination."""
        self._shift = 6 + len(self._tails[ETHERTYPE_IPV4])

    # --- frames in ---

    def receive(self, frame: memoryview, length: int, now: float) -> None:
        """One frame of the device, in the first `length` bytes of `frame`, with room behind as Stack.receive_frame
        wants it. The buffer is written to. Never raises for anything a peer can send."""
        try:
            header = parse_ethernet(frame[VNET_HDR_LEN:length])
            if header.destination != self.mac and not is_group(header.destination):
                raise WireError("ethernet_other")
            if header.vlan != self.vlan:
                raise WireError("vlan")
            if is_group(header.source):
                raise WireError("ethernet_source")
            if header.ethertype == ETHERTYPE_ARP:
                self._receive_arp(parse_arp(frame[VNET_HDR_LEN + header.length : length]), now)
                return
            if header.ethertype not in _IP_ETHERTYPES:
                raise WireError("ethertype")
            skip = header.length
            vnet = moved(frame, -skip)
            frame = frame[skip:]
            frame[:VNET_HDR_LEN] = vnet
            length -= skip
            if header.destination != self.mac and not self._is_for_group(frame):
                raise WireError("ethernet_group")
            if header.ethertype == ETHERTYPE_IPV6 and _is_ndp(frame, length):
                self._receive_ndp(frame[:length], header.source, now)
                return
        except WireError as error:
            self._drops[error.reason] += 1
            return
        self._deliver(frame, length, now)

    def _is_for_group(self, frame: memoryview) -> bool:
        """Whether what everybody gets is meant for more than one: RFC 1122 §3.3.6, RFC 1812 §5.3.4."""
        destination = bytes(frame[26:30] if frame[VNET_HDR_LEN] >> 4 == 4 else frame[34:50])
        return not is_unicast(destination) or destination in self.broadcasts

    def _receive_arp(self, message: Arp, now: float) -> None:
        """RFC 826, and RFC 5227 §2.1.1 for those who claim or probe for what is ours."""
        if message.sender_mac == self.mac:
            return  # our own, sent back by the link
        ours = self.addresses.entries
        probe = message.sender == arp.UNSPECIFIED
        if message.sender in ours:
            self.addresses.on_claim(message.sender, message.sender_mac, now)
            return
        if probe and message.target in ours and message.target not in self.addresses.usable:
            self.addresses.on_claim(message.target, message.sender_mac, now)
            return
        asked = message.operation == arp.REQUEST and message.target in self.addresses.usable
        if asked:
            if not probe:
                self.neighbours.on_sight(message.sender, message.sender_mac, now)
            self._send_arp(
                arp.REPLY, message.target, message.sender_mac, message.sender, to=message.sender_mac
            )
        elif not probe:
            answer = message.operation == arp.REPLY and message.target in self.addresses.usable
            self.neighbours.on_advertisement(
                message.sender, message.sender_mac, now, solicited=answer, override=True
            )

    def _receive_ndp(self, frame: memoryview, station: bytes, now: float) -> None:
        """RFC 4861 §7.2.3, §7.2.5; RFC 4862 §5.4.3, §5.4.4. Raises WireError."""
        packet = frame[VNET_HDR_LEN:]
        ip = parse_ip(packet)
        if frame[_ICMP_TYPE] not in (ndp.SOLICITATION, ndp.ADVERTISEMENT):
            raise WireError("ndp_ignored")
        message = ndp.parse_ndp(ip, packet[ip.header_length : ip.total_length], vouched=bool(frame[0]))
        if station == self.mac:
            return  # our own, sent back by the link
        target = message.target
        if not message.solicitation:
            if target in self.addresses.entries:
                self.addresses.on_claim(target, message.mac or station, now)
            else:
                self.neighbours.on_advertisement(
                    target, message.mac, now, solicited=message.solicited, override=message.override
                )
        elif target in self.addresses.usable:
            probe = not any(ip.source)
            if message.mac is not None:
                self.neighbours.on_sight(ip.source, message.mac, now)
            answer = ndp.build_advertisement(
                target,
                ndp.ALL_NODES if probe else ip.source,
                self.mac,
                router=self._router,
                solicited=not probe,
            )
            self.send(answer[24:40], (PLAIN + answer,))
        elif target in self.addresses.entries and not any(ip.source):
            self.addresses.on_claim(target, station, now)

    # --- frames out ---

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """Send an IP frame to a neighbour or a group on this link, as soon as it is known where that is."""
        entry = self.neighbours.entries.get(next_hop)
        if entry is not None and entry.usable:
            self.transmit(parts, entry.mac)
        elif next_hop[0] == 0xFF if len(next_hop) == 16 else next_hop[0] >= 224:
            self.transmit(parts, group_mac(next_hop))
        elif next_hop in self.broadcasts:
            self.transmit(parts, BROADCAST)
        else:
            self.neighbours.send(next_hop, parts, self._clock(), forwarded=forwarded)

    def transmit(self, parts: Parts, mac: bytes) -> None:
        """Send an IP frame, whose IP header is in the first part, to the station `mac`."""
        first = parts[0]
        tail = self._tails[ETHERTYPE_IPV6 if first[VNET_HDR_LEN] >> 4 == 6 else ETHERTYPE_IPV4]
        head = moved(first, self._shift) + mac + tail
        self._write((head, memoryview(first)[VNET_HDR_LEN:], *parts[1:]))

    def _send_arp(
        self, operation: int, sender: bytes, target_mac: bytes, target: bytes, to: bytes = BROADCAST
    ) -> None:
        message = build_arp(Arp(operation, self.mac, sender, target_mac, target))
        self._write((PLAIN + to + self._tails[ETHERTYPE_ARP] + message,))

    # --- what neighbours.py and addresses.py decide ---

    def solicit(self, address: bytes, mac: bytes | None) -> None:
        """Ask who has `address`: everybody, or only `mac`."""
        source = self._source_for(address)
        if len(address) == 4:
            self._send_arp(
                arp.REQUEST, source or arp.UNSPECIFIED, arp.UNKNOWN_MAC, address, to=mac or BROADCAST
            )
            return
        question = ndp.build_solicitation(
            source or ndp.UNSPECIFIED, address, self.mac, to=address if mac is not None and source else None
        )
        self.transmit((PLAIN + question,), mac or group_mac(question[24:40]))

    def probe(self, address: bytes) -> None:
        """Ask whether somebody has `address`, without claiming it."""
        if len(address) == 4:
            self._send_arp(arp.REQUEST, arp.UNSPECIFIED, arp.UNKNOWN_MAC, address)
            return
        question = ndp.build_solicitation(ndp.UNSPECIFIED, address, self.mac)
        self.transmit((PLAIN + question,), group_mac(question[24:40]))

    def announce(self, address: bytes) -> None:
        """Gratuitous ARP (RFC 5227 §3) or unsolicited advertisement (RFC 4861 §7.2.6)."""
        if len(address) == 4:
            self._send_arp(arp.REQUEST, address, arp.UNKNOWN_MAC, address)
            return
        message = ndp.build_advertisement(address, ndp.ALL_NODES, self.mac, router=self._router)
        self.transmit((PLAIN + message,), group_mac(ndp.ALL_NODES))


def _is_ndp(frame: memoryview, length: int) -> bool:
    """Whether an IPv6 packet is router or neighbour discovery."""
    if frame[_NEXT_HEADER] != IPV6.icmp or length <= _ICMP_TYPE:
        return False
    return ndp.ROUTER_SOLICITATION <= frame[_ICMP_TYPE] <= ndp.REDIRECT
