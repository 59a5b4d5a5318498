"""Does it work? Asked of the kernel and of the stack, once the routes are in place.

    traffic enters    a connection to our own gateway address, by a socket like any program's, is refused by the
                      stack: rules, table, TUN, engine and the way back are as they should be
    ours stays out    the kernel is asked by which interface our mark leaves

Neither sends a packet to the network.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from tunsmith.config import Network
from tunsmith.dial.readiness import writable
from tunsmith.errors import HostError
from tunsmith.host.netlink.channel import Netlink
from tunsmith.host.netlink.links import read_links
from tunsmith.host.netlink.routes import read_way
from tunsmith.route.plan import Plan

PATIENCE = 3.0
"""Seconds for the stack's answer; it comes within milliseconds."""
SOMEWHERE = {4: ip_address("1.0.0.1"), 6: ip_address("2600::1")}
"""An address that only a default route leads to."""
_DISCARD = 9
_ANSWERS = (0, errno.ECONNREFUSED)


async def prove(plan: Plan, network: Network, versions: Iterable[int]) -> list[str]:
    """What is not as it should be and may get better, in lines for people: there is no way out at the moment. Raises
    HostError where the TUN is not entered, or our own traffic would be."""
    versions = tuple(versions)
    for version in versions:
        await _enters(network.gateway if version == 4 else network.gateway6, plan.tun)
    ways = {version: _way(SOMEWHERE[version], plan.mark) for version in versions} if plan.mark else {}
    for version, device in ways.items():
        if device == plan.tun:
            raise HostError(
                f"IPv{version}: what bears mark {plan.mark:#x} is led into {plan.tun}, too; see `ip rule`"
            )
    if ways and not any(ways.values()):
        return ["there is no way out of this machine at the moment: flows fail until there is one"]
    return []


async def _enters(gateway: IPv4Address | IPv6Address, tun: str) -> None:
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect_ex((str(gateway), _DISCARD))
        try:
            async with asyncio.timeout(PATIENCE):
                await writable(sock.fileno())
        except TimeoutError:
            raise HostError(f"a connection to {gateway} did not come through {tun}: see `ip rule`") from None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code not in _ANSWERS:
        raise HostError(
            f"a connection to {gateway} did not come through {tun} ({os.strerror(code)}): see `ip rule`"
        )


def _way(to: IPv4Address | IPv6Address, mark: int) -> str:
    """The interface by which packets to `to` with `mark` leave, "" where there is none."""
    with Netlink() as netlink:
        names = {link.index: link.name for link in read_links(netlink)}
        way = read_way(netlink, to, lambda index: names.get(index, ""), mark)
    return "" if way is None else way.device
