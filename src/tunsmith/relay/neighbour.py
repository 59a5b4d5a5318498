"""A proxy that runs on this machine, and whose own connections are led into the TUN like everybody's.

It would be asked to reach a destination, connect to it, be caught, be asked to reach it, and so on. Where it marks
its sockets, or runs as somebody for whom there is a rule, it never comes here. Where it does, its flows are known by
the process that has the socket, and sent out directly, by sockets of ours that are marked: one line says so.

Looking for the process of a socket takes a while. Until the proxy has been caught once, only those flows are looked
at that go where it has just been asked to go.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from tunsmith.flow import TCP, Target
from tunsmith.host.socket_owner import holds, inode_of, listeners_at, name_of

if TYPE_CHECKING:
    from tunsmith.dial.base import Dialer
    from tunsmith.relay.flows import FlowBook
    from tunsmith.wire.ip import IpFamily

AGAIN = 5.0
"""Seconds before the processes that listen at the proxy's port are looked for again."""


class Neighbour:
    """The proxy at `proxy`, an address of this machine. `direct` is how its own flows go out."""

    def __init__(self, proxy: Target, direct: Dialer) -> None:
        self.direct = direct
        self._proxy = proxy
        self._processes: frozenset[int] = frozenset()
        self._looked = float("-inf")
        self._caught = False

    def sends(
        self,
        protocol: int,
        family: IpFamily,
        key: bytes,
        target: Target,
        asked: Collection[Target],
        book: FlowBook,
    ) -> bool:
        """Whether the flow `key` to `target` is the proxy's own; `asked` is where it has just been asked to go. It is
        counted and told."""
        if protocol == TCP and not self._caught and target not in asked:
            return False
        address, port, remote, remote_port = family.split(key)
        inode = inode_of(protocol, (address, port), (remote, remote_port))
        pid = self._holder(inode) if inode else 0
        if not pid:
            return False
        book.drops["loop"] += 1
        if not self._caught:
            self._caught = True
            book.notice(
                f"routing loop: the proxy {self._proxy} is a program on this machine ({name_of(pid)}, process {pid}) "
                f"whose own traffic came back through the TUN; it is sent out directly from now on"
            )
        return True

    def _holder(self, inode: int) -> int:
        found = next((pid for pid in self._processes if holds(pid, inode)), 0)
        if found or time.monotonic() - self._looked < AGAIN:
            return found
        self._looked = time.monotonic()
        self._processes = listeners_at(self._proxy.port)
        return next((pid for pid in self._processes if holds(pid, inode)), 0)
