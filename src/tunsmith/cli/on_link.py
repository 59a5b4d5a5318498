"""What `echo` and `connect` share: addresses on the command line, the interface, and an end by signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any

from tunsmith.cli.main import NOT_STARTED, complain
from tunsmith.errors import DeviceError, HostError, UsageError
from tunsmith.stack.nic import check_host
from tunsmith.wire.ethernet import parse_mac

if TYPE_CHECKING:
    from tunsmith.aio.stack import Stack
    from tunsmith.host.link import Link

Interface = IPv4Interface | IPv6Interface

_BROADCAST = IPv4Address("255.255.255.255")
_USUAL_PREFIX = {4: 24, 6: 64}


def parse_address(text: str, what: str) -> Interface:
    """An address, with a prefix or the usual one. Raises UsageError that calls it `what`."""
    try:
        address = ip_interface(text)
    except ValueError:
        raise UsageError(f"{what} {text}: not an IP address, like 10.7.0.2 or fd07::2") from None
    ip = address.ip
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip == _BROADCAST:
        raise UsageError(f"{what} {text}: no address that a host can have on a link")
    if ip.version == 6 and ip.is_link_local:
        raise UsageError(f"{what} {text}: link-local addresses are not for this; take one like fd07::2")
    return address if "/" in text else ip_interface((ip, _USUAL_PREFIX[ip.version]))


def parse_own_address(text: str, what: str) -> Interface:
    """As parse_address, for the stack: an address of a host. Raises UsageError."""
    address = parse_address(text, what)
    check_host(address, f"{what} {text}")
    return address


def parse_station(mac: str | None, tap: bool) -> bytes | None:
    """What --mac says. Raises UsageError for what is no MAC, and where there is no Ethernet."""
    if mac is None:
        return None
    if not tap:
        raise UsageError("--mac goes with --tap: only Ethernet has MAC addresses")
    try:
        return parse_mac(mac)
    except ValueError as error:
        raise UsageError(f"--mac: {error}") from None


def open_stack(link: Link, address: Interface, mac: bytes | None) -> Stack:
    """A stack that is `address` on `link`, started; on Ethernet whatever is not near goes by way of this machine, where
    the interface was made. Raises UsageError."""
    from tunsmith.aio.stack import Stack

    try:
        stack = Stack(link.device, [str(address)], mac=mac)
    except UsageError:
        link.device.close()
        raise
    if link.device.ethernet and link.here is not None:
        stack.add_route(str(link.here))
        stack.add_route(f"{'::' if address.version == 6 else '0.0.0.0'}/0", gateway=str(link.here))
    stack.start()
    return stack


def say_about(link: Link, say: Callable[[str], None]) -> None:
    """What a person should know about the interface."""
    if link.made:
        say(f"{link.name} is made for this, and gone afterwards; this machine is {link.here} on it")
    elif not link.up:
        say(f"{link.name} is down; packets come once it is up: `ip link set {link.name} up`")


def run_until_signal(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `main`, whose result is the exit code. SIGINT and SIGTERM cancel it: 128 and the signal, unless it makes
    something else of that. Where there is no device for us: 125."""
    try:
        return asyncio.run(_until_signal(main))
    except (HostError, DeviceError) as error:
        return complain(str(error), NOT_STARTED)
    except OSError as error:
        return complain(error.strerror or str(error), NOT_STARTED)


async def _until_signal(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    received: list[int] = []
    task = asyncio.ensure_future(main())

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + received[0]
