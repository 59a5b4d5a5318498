"""Pinning upstream sockets to one network interface (`--interface`).

A bind to the interface's *address* does not choose the route on Linux; SO_BINDTODEVICE does, and since
Linux 5.7 needs no privilege on a socket that is not pinned yet. It is set by name on every new socket,
so an interface that goes away and comes back is picked up by the next flow.
"""

from __future__ import annotations

import errno
import os
import socket

from tunsmith.errors import UsageError


class Interface:
    """A network interface that upstream sockets may be pinned to."""

    __slots__ = ("_option", "name")

    def __init__(self, name: str) -> None:
        """Raises UsageError where `name` does not exist or this kernel will not let us pin to it."""
        self.name = name
        packed = os.fsencode(name)
        self._option = packed + b"\0"
        if not 0 < len(packed) < 16 or "\0" in name:
            raise UsageError(f"--interface {name!r}: an interface name has 1 to 15 bytes")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                self._set(probe)
            except OSError as error:
                raise UsageError(_explain(name, error)) from None

    def pin(self, sock: socket.socket, host: str) -> None:
        """Make `sock`, which is going to `host`, leave by this interface.

        Loopback destinations are exempt: a proxy on this machine is reachable by no other interface.
        Raises OSError (ENODEV) when the interface has gone."""
        if not (host.startswith("127.") or host == "::1"):
            self._set(sock)

    def _set(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._option)


def _explain(name: str, error: OSError) -> str:
    if error.errno == errno.ENODEV:
        known = ", ".join(known for _, known in socket.if_nameindex())
        return f"--interface {name}: no such interface; this machine has {known}"
    if error.errno == errno.EPERM:
        return f"--interface {name}: this kernel lets only root pin sockets; Linux 5.7 or newer lets everyone"
    return f"--interface {name}: {error.strerror}"
