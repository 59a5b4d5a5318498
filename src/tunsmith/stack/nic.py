"""A network interface of a stack: a device and what we are called on it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Protocol

from tunsmith.errors import UsageError
from tunsmith.stack.addresses import OnConflict
from tunsmith.stack.ethernet import Station
from tunsmith.stack.output import Parts
from tunsmith.wire.ethernet import is_group, parse_mac
from tunsmith.wire.ndp import link_local
from tunsmith.wire.offload import segment
from tunsmith.wire.vnet import GSO_UDP_L4, TSO, USO

LARGEST_VLAN = 4094


class Port(Protocol):
    """What of a device (device/base.py) a NIC needs."""

    offload: int
    mtu: int
    ethernet: bool

    def write(self, parts: Parts) -> None:
        """One frame out."""


class Nic:
    """One interface, to be given to a Router.

    `addresses` are ours, with the length of their network's prefix: "10.0.0.2/24", "fd00::2/64"; without one it
    is the address alone. With `any_destination` packets to every address are taken, not only to ours; what comes
    in to a foreign address is answered from it.

    A device that carries Ethernet needs a `mac` ("02:00:5e:00:00:01" or six bytes), and may be on a tagged `vlan`.
    There, addresses are probed for before they are used unless `probe` is false: that takes a second.
    `on_conflict(address, mac)` hears of stations that claim what is ours. Where IPv6 is spoken on Ethernet, a
    link-local address is made of the MAC if none is given (RFC 4291 §2.1).

    Raises UsageError for addresses, MACs and VLANs that are none."""

    def __init__(
        self,
        device: Port,
        addresses: Iterable[str | IPv4Interface | IPv6Interface] = (),
        *,
        mac: str | bytes | None = None,
        any_destination: bool = False,
        vlan: int = 0,
        probe: bool = True,
        on_conflict: OnConflict | None = None,
        name: str = "",
    ) -> None:
        self.device = device
        self.mtu = device.mtu
        self.name = name
        self.any_destination = any_destination
        self.vlan = _checked_vlan(vlan, device.ethernet)
        self.probe = probe
        self.on_conflict = on_conflict
        self.mac = _checked_mac(mac, device.ethernet)
        self.interfaces = [_checked_interface(address) for address in addresses]
        if self.mac is not None and _wants_link_local(self.interfaces):
            self.interfaces.append(IPv6Interface((link_local(self.mac), 64)))
        self.usable: set[bytes] = set()
        """The addresses of ours that are in use: on Ethernet those that nobody else has."""
        self.broadcasts = frozenset(
            interface.network.broadcast_address.packed
            for interface in self.interfaces
            if interface.version == 4 and interface.network.prefixlen < 31
        )
        self.station: Station | None = None
        """The Ethernet side; the Router's work."""
        self._cuts_tcp = device.offload & TSO != TSO
        self._cuts_udp = device.offload & USO != USO

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """Send an IP frame, with its IP header in the first part, to a neighbour. What the device cannot do to it
        is done here."""
        if (self._cuts_tcp or self._cuts_udp) and self._must_be_cut(parts[0]):
            for frame in segment(b"".join(parts)):
                self._send(next_hop, (frame,), forwarded)
        else:
            self._send(next_hop, parts, forwarded)

    def _must_be_cut(self, first: bytes | memoryview) -> bool:
        return (self._cuts_tcp and any(first[:2])) or first[1] == GSO_UDP_L4

    def _send(self, next_hop: bytes, parts: Parts, forwarded: bool) -> None:
        if self.station is None:
            self.device.write(parts)
        else:
            self.station.send(next_hop, parts, forwarded=forwarded)

    def source_for(self, peer: bytes) -> bytes | None:
        """Which of ours speaks to `peer`: the one that has the longest prefix in common with it, of those in use.
        The sixth and the eighth of the rules of RFC 6724 §5, as far as they matter for one link."""
        best, longest = None, -1
        width = 8 * len(peer)
        number = int.from_bytes(peer, "big")
        for ours in self.usable:
            if len(ours) != len(peer):
                continue
            common = width - (int.from_bytes(ours, "big") ^ number).bit_length()
            if common > longest:
                best, longest = ours, common
        return best

    def __repr__(self) -> str:
        return f"<Nic {self.name} {' '.join(map(str, self.interfaces))}>"


def _checked_interface(address: str | IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
    try:
        interface = ip_interface(address)
    except ValueError as error:
        raise UsageError(f"{address!r} is no address of an interface: {error}") from error
    check_host(interface, str(address))
    return interface


def check_host(interface: IPv4Interface | IPv6Interface, said: str) -> None:
    """Raises UsageError, about what was `said`, where the address is that of the network or of everybody on it."""
    network = interface.network
    if network.prefixlen > network.max_prefixlen - 2:
        return  # two hosts and no more (RFC 3021, RFC 6164), or one
    if interface.ip == network.network_address:
        what = "the network itself"
    elif interface.version == 4 and interface.ip == network.broadcast_address:
        what = "everybody"
    else:
        return
    raise UsageError(f"{said}: in {network} that is {what}; take the address of a host, like {network[2]}")


def _checked_mac(mac: str | bytes | None, ethernet: bool) -> bytes | None:
    if not ethernet:
        if mac is not None:
            raise UsageError("this device carries no Ethernet: leave out the MAC address, or open a TAP")
        return None
    if mac is None:
        raise UsageError("a device that carries Ethernet needs a MAC address, like 02:00:5e:10:00:01")
    try:
        packed = parse_mac(mac) if isinstance(mac, str) else mac
    except ValueError as error:
        raise UsageError(str(error)) from error
    if len(packed) != 6 or is_group(packed) or not any(packed):
        raise UsageError(f"{packed.hex(':')} is no MAC address of one station; 02:00:5e:10:00:01 would be")
    return packed


def _checked_vlan(vlan: int, ethernet: bool) -> int:
    if not 0 <= vlan <= LARGEST_VLAN or (vlan and not ethernet):
        raise UsageError(
            f"VLAN {vlan}: a device that carries Ethernet can be in 1 to {LARGEST_VLAN}, or 0 for none"
        )
    return vlan


def _wants_link_local(interfaces: list[IPv4Interface | IPv6Interface]) -> bool:
    sixes = [interface for interface in interfaces if interface.version == 6]
    return bool(sixes) and not any(interface.is_link_local for interface in sixes)
