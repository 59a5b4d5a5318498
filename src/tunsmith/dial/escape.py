"""How sockets of ours leave this machine: by one network interface, with a mark, or both.

Where routes lead everything into a TUN, what tunsmith sends must not come back in by it. Two options of a socket
say so to the kernel's routing: SO_MARK, which a policy rule looks for, and SO_BINDTODEVICE. (A bind to the
*address* of an interface does not choose the route on Linux: docs/up.md shows the experiment.) Every socket
that goes anywhere is pinned here, before it is bound or connected.

SO_MARK needs CAP_NET_ADMIN. SO_BINDTODEVICE, since Linux 5.7, needs no privilege on a socket that is not pinned
yet; it is set by name on every new socket, so an interface that goes away and comes back is picked up by the next
flow.
"""

from __future__ import annotations

import errno
import os
import socket

from tunsmith.dial.underway import Underway
from tunsmith.errors import HostError, UsageError


class Escape:
    """The way out for sockets of ours. One object is shared by all that open sockets: a change of `interface` holds
    for every new one."""

    __slots__ = ("_nowhere", "_option", "interface", "mark", "underway")

    def __init__(self, interface: str | None = None, mark: int = 0, underway: Underway | None = None) -> None:
        """`underway` is told of the sockets that go out, where somebody wants to know their packets again.

        Raises UsageError where `interface` does not exist, or this kernel will not let us pin to it; HostError where
        we may not mark."""
        self.mark = mark
        self.underway = underway
        self.leave_by(interface)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                self.mark_only(probe)
            except OSError as error:
                raise HostError(f"cannot mark sockets ({error.strerror}): it needs CAP_NET_ADMIN") from None
            try:
                self._bind(probe)
            except OSError as error:
                raise UsageError(_explain(self.interface or "", error)) from None

    def leave_by(self, interface: str | None) -> None:
        """Pin sockets to `interface` from now on. Raises UsageError for what is no name."""
        packed = os.fsencode(interface or "")
        if interface is not None and (not 0 < len(packed) < 16 or "\0" in interface):
            raise UsageError(f"--interface {interface!r}: an interface name has 1 to 15 bytes")
        self._nowhere = False
        self.interface = interface
        self._option = packed + b"\0"

    def leave_nowhere(self) -> None:
        """There is no way out until `leave_by` tells one: sockets could only come back."""
        self._nowhere = True

    def pin(self, sock: socket.socket, host: str) -> None:
        """Make `sock`, which is going to `host`, leave this way.

        Loopback destinations are not bound to the interface: a proxy on this machine is reachable by no other.
        Raises OSError: ENODEV when the interface has gone, ENETUNREACH where there is none."""
        self.mark_only(sock)
        if not (host.startswith("127.") or host == "::1"):
            if self._nowhere:
                raise OSError(errno.ENETUNREACH, "there is no way out")
            self._bind(sock)

    def mark_only(self, sock: socket.socket) -> None:
        """As `pin`, for a destination that says itself which interface it is behind."""
        if self.mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)

    def _bind(self, sock: socket.socket) -> None:
        if self.interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._option)


def _explain(name: str, error: OSError) -> str:
    if error.errno == errno.ENODEV:
        known = ", ".join(known for _, known in socket.if_nameindex())
        return f"--interface {name}: no such interface; this machine has {known}"
    if error.errno == errno.EPERM:
        return f"--interface {name}: this kernel lets only root pin sockets; Linux 5.7 or newer lets everyone"
    return f"--interface {name}: {error.strerror}"
