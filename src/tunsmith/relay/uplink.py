"""What becomes of flows when this machine's own network changes under them.

A connected socket keeps the address it got, and one that is pinned keeps its interface, by number. When either has
gone, nothing tells the socket: it waits for answers that cannot come, for many minutes. Such flows are ended at
once, so that applications begin again, by the new way. The others go on: the same address on the same link after a
moment without is the best case, and sockets that are bound to nothing choose their way anew with each datagram.

After a suspend nothing here has changed, but the other ends may have given up long ago. There every connection is
questioned: the kernel's keep-alive at its most impatient, for a moment.
"""

from __future__ import annotations

import socket
from collections.abc import Container, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.config import Network
    from tunsmith.relay.report import FlowRecord

IMPATIENCE = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))
"""Dead connections are known after four seconds."""
USER_TIMEOUT = 4000
"""The same, in milliseconds, for those that have something to send (RFC 5482)."""
QUESTIONED = 10.0
"""Seconds until a connection that has answered is left in peace again."""

_NAME_ROOM = 16


def is_stranded(fd: int, addresses: Container[str], interface: str | None) -> bool:
    """Whether the socket `fd` can be answered no more by a machine that has these `addresses`, where sockets are pinned
    to `interface` now."""
    sock = socket.socket(fileno=fd)
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        pinned = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _NAME_ROOM)
        if pinned and pinned.rstrip(b"\0").decode() != interface:
            return True
        here = sock.getsockname()[0].partition("%")[0]
        return here not in ("0.0.0.0", "::") and not here.startswith("127.") and here not in addresses
    except OSError:  # its interface or its other end has gone
        return True
    finally:
        sock.detach()


def tell_the_deaf(records: Iterable[FlowRecord], addresses: Container[str], network: Network) -> None:
    """Of TCP flows that have been reset, end those at their programs whose own address has gone with ours: a reset
    could not arrive. Programs of other machines keep theirs."""
    deaf = []
    for record in records:
        source = record.source.host
        if source not in addresses and source not in (str(network.inside), str(network.inside6)):
            here, port, there, there_port = record.family.split(record.key)
            deaf.append(((here, port), (there, there_port)))
    if deaf:
        from tunsmith.host.severed import sever

        sever(deaf)


def question(socks: Iterable[socket.socket]) -> None:
    """Have the other end of each connection show that it lives."""
    _keep_alive(socks, 1, USER_TIMEOUT)


def leave_in_peace(socks: Iterable[socket.socket]) -> None:
    """End what `question` began."""
    _keep_alive(socks, 0, 0)


def _keep_alive(socks: Iterable[socket.socket], on: int, user_timeout: int) -> None:
    for sock in socks:
        with suppress(OSError):
            for option, value in IMPATIENCE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, on)
