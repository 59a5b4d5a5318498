"""A TUN or TAP interface that stays, set up by hand: what has to change until it is as somebody wants it.

One that is there already is taken as it is, if it is of the kind that is wanted; only what it lacks is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from tunsmith.errors import UsageError
from tunsmith.route.change import AddAddress, AddLink, Change, SetLink
from tunsmith.route.facts import Interface, Link, Snapshot
from tunsmith.route.wish import check_name

LEAST_MTU, MOST_MTU, LEAST_MTU6 = 68, 65535, 1280
"""RFC 791, the kernel's limit for a TUN, and RFC 8200 §5."""
USUAL_MTU = 1500
_LINK_SCOPE = 253
_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """The interface that is wanted. `mtu` 0: the usual one, or that which it has. Raises UsageError where there
    can be none like it."""

    made: AddLink
    addresses: tuple[Interface, ...] = ()
    mtu: int = 0
    up: bool = False

    def __post_init__(self) -> None:
        check_name(self.made.name)
        for address in self.addresses:
            _check_address(address)
        if self.mtu and not LEAST_MTU <= self.mtu <= MOST_MTU:
            raise UsageError(f"an MTU of {self.mtu} is not between {LEAST_MTU} and {MOST_MTU}")
        if 0 < self.mtu < LEAST_MTU6 and any(address.version == 6 for address in self.addresses):
            raise UsageError(
                f"an MTU of {self.mtu} is less than the {LEAST_MTU6} that IPv6 needs (RFC 8200 §5)"
            )


def switches(name: str) -> list[str]:
    """The sysctls that a snapshot for `set_up` must tell."""
    return [f"net/ipv6/conf/{each}/disable_ipv6" for each in (name, "default")]


def set_up(wish: DeviceWish, found: AddLink | None, snapshot: Snapshot) -> list[Change]:
    """The changes, in their order, none where all is as wanted. `found` is how the interface of that name was made,
    None where there is no TUN or TAP of that name. Raises UsageError where it cannot be had here."""
    name = wish.made.name
    link = snapshot.link(name)
    changes: list[Change] = []
    if link is None:
        changes.append(wish.made)
        link = Link(name, 0, "tun", up=False, mtu=USUAL_MTU)
    elif found is None:
        raise UsageError(f"the name {name} is taken by an interface that is no TUN or TAP; choose another")
    elif found != wish.made:
        raise UsageError(
            f"{name} is there already, but {describe(found)}, not {describe(wish.made)}: choose another name, or "
            f"delete it (`tunsmith link delete {name}`)"
        )
    mtu, is_up = wish.mtu or link.mtu, wish.up or link.up
    addresses = _missing_addresses(wish, snapshot)
    if (mtu, is_up) != (link.mtu, link.up):
        changes.append(SetLink(name, is_up, wish.mtu, was_up=link.up, was_mtu=link.mtu if wish.mtu else 0))
    return [*changes, *addresses]


def as_it_is(made: AddLink, snapshot: Snapshot) -> list[Change]:
    """The changes that would make the interface as it is now: what its deletion takes."""
    link = snapshot.link(made.name)
    changes: list[Change] = [made]
    if link is not None and (link.up or link.mtu != USUAL_MTU):
        mtu = link.mtu if link.mtu != USUAL_MTU else 0
        changes.append(SetLink(made.name, link.up, mtu, was_mtu=USUAL_MTU if mtu else 0))
    own = (each for each in snapshot.addresses if each.device == made.name and each.scope != _LINK_SCOPE)
    return [*changes, *(AddAddress(each.device, each.address, each.peer) for each in own)]


def describe(made: AddLink) -> str:
    """How it was made, in words."""
    owners = [
        f"{word} {number}"
        for word, number in (("user", made.user), ("group", made.group))
        if number is not None
    ]
    queues = "many queues" if made.many_queues else "one queue"
    return f"a {'TAP' if made.tap else 'TUN'} for {' and '.join(owners) or 'root'} with {queues}"


def _missing_addresses(wish: DeviceWish, snapshot: Snapshot) -> list[AddAddress]:
    name = wish.made.name
    off = next((snapshot.settings[path] for path in switches(name) if path in snapshot.settings), "0")
    missing = []
    for address in dict.fromkeys(wish.addresses):
        if address.version == 6 and off == "1":
            raise UsageError(
                f"{address}: IPv6 is switched off here (`sysctl net/ipv6/conf/default/disable_ipv6` is 1)"
            )
        holder = next((each for each in snapshot.addresses if each.address.ip == address.ip), None)
        if holder is None:
            missing.append(AddAddress(name, address))
        elif (holder.device, holder.address, holder.peer) != (name, address, None):
            raise UsageError(f"{address}: {holder.device} has the address {holder.address} already")
    return missing


def _check_address(address: Interface) -> None:
    ip, network = address.ip, address.network
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback or ip == _BROADCAST:
        raise UsageError(f"{address} is no address that an interface can have")
    if (
        ip.version == 4
        and network.num_addresses > 2
        and ip in (network.network_address, network.broadcast_address)
    ):
        raise UsageError(f"{address} is not a host's address: {ip} is that of the network, or its broadcast")
