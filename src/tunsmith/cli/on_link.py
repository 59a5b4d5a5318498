"""What `echo` and `connect` share: addresses on the command line, the interface, and an end by signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any

from tunsmith.cli.main import NOT_STARTED, complain
from tunsmith.errors import DeviceError, HostError, UsageError

if TYPE_CHECKING:
    from tunsmith.host.link import Link

Interface = IPv4Interface | IPv6Interface

_USUAL_PREFIX = {4: 24, 6: 64}


def parse_address(text: str, what: str) -> Interface:
    """An address, with a prefix or the usual one. Raises UsageError that calls it `what`."""
    try:
        address = ip_interface(text)
    except ValueError:
        raise UsageError(f"{what} {text}: not an IP address, like 10.7.0.2 or fd07::2") from None
    ip = address.ip
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback:
        raise UsageError(f"{what} {text}: no address that a host can have on a link")
    if "/" in text:
        return address
    return ip_interface((ip, _USUAL_PREFIX[ip.version]))


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
