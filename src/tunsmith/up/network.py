"""The network of a TUN: all of what is set aside for it, or a part, so that several instances go side by side.

An instance that takes everything is alone and has the whole. Those that take some prefixes only (`--include`) share
it, an eighth each.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Interface, IPv6Interface

from tunsmith.config import Network
from tunsmith.errors import UsageError
from tunsmith.route.facts import Snapshot

SHARES = 8
_BITS = 3


def addresses(network: Network) -> tuple[IPv4Interface, IPv6Interface]:
    """Those of the TUN interface, each with the network that is ours."""
    return (
        IPv4Interface((network.inside, network.fake.prefixlen)),
        IPv6Interface((network.inside6, network.fake6.prefixlen)),
    )


def network_for(takes_all: bool, snapshot: Snapshot, but: Collection[str] = ()) -> Network:
    """The network of the instance that is about to start. What is on the interfaces `but` is no obstacle. Raises
    UsageError where all shares are taken."""
    whole = Network()
    if takes_all:
        return whole
    taken = [each.address.ip for each in snapshot.addresses if each.device not in but]
    shares = zip(whole.fake.subnets(_BITS), whole.fake6.subnets(_BITS), strict=True)
    for fake, fake6 in shares:
        if not any(address in (fake if address.version == 4 else fake6) for address in taken):
            return Network(fake[1], fake[2], fake6[1], fake6[2], fake, fake6)
    raise UsageError(f"{SHARES} instances run already, and there can be no more: stop one of them")
