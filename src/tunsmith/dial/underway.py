"""The sockets of ours that are out there, so that their packets are known should they come back in by the TUN.

That is the routing loop: what tunsmith sends towards a destination is routed into its own TUN, looks like a new
flow to that destination, is dialed, and so on for ever. The packet that comes back bears the very addresses and
ports of the socket that sent it:

    TCP    the flow has both ends of a connection that is being made; one that is made sends no SYN
    UDP    its source port is that of a port of ours
    ping   its identifier is that of a ping socket of ours

Of the common flow this costs one look into a dictionary. Entries of ports that are closed stay until the port is
used again: there are no more than 65536.
"""

from __future__ import annotations

import socket
from weakref import ref

from tunsmith.flow import Target

MANY = 4096
"""Destinations from which on those that nobody waits for any more are looked for; see `connecting`."""


class Underway:
    """What has been sent out and not arrived yet, as far as is known here."""

    __slots__ = ("_connecting", "_identifiers", "_ports")

    def __init__(self) -> None:
        self._connecting: dict[Target, list[ref[socket.socket]]] = {}
        self._ports: dict[int, ref[socket.socket]] = {}
        self._identifiers: dict[int, ref[socket.socket]] = {}

    def __len__(self) -> int:
        """Destinations that are waited for."""
        return len(self._connecting)

    def connecting(self, sock: socket.socket, target: Target) -> None:
        """`sock` waits for `target`, an IP literal, to answer; until `connected`. A dial that is given up before it
        began never says so, and is missed by its socket."""
        if len(self._connecting) >= MANY:
            self._connecting = {
                target: waiting for target, waiting in self._connecting.items() if any(map(_is_open, waiting))
            }
        self._connecting.setdefault(target, []).append(ref(sock))

    def connected(self, sock: socket.socket, target: Target) -> None:
        """`sock` waits no longer, whatever became of it."""
        left = [known for known in self._connecting.pop(target, ()) if known() not in (sock, None)]
        if left:
            self._connecting[target] = left

    def opened(self, sock: socket.socket) -> None:
        """`sock` is a UDP port of ours."""
        self._ports[sock.getsockname()[1]] = ref(sock)

    def pinging(self, sock: socket.socket, identifier: int | None) -> None:
        """`sock` sends pings with `identifier`; None: with one that the kernel gives it."""
        if identifier is None:
            sock.bind(("", 0))
            identifier = sock.getsockname()[1]
        self._identifiers[identifier] = ref(sock)

    def has_target(self, destination: Target) -> bool:
        """Whether any connection of ours to `destination` is being made."""
        return destination in self._connecting

    def has_stream(self, source: Target, destination: Target) -> bool:
        """Whether a connection of ours from `source` to `destination` is being made."""
        waiting = self._connecting.get(destination)
        return waiting is not None and any(_name(known()) == source for known in waiting)

    def has_port(self, port: int) -> bool:
        """Whether UDP port `port` of this machine is ours."""
        return _is_open(self._ports.get(port))

    def has_identifier(self, identifier: int) -> bool:
        """Whether we send pings with `identifier`."""
        return _is_open(self._identifiers.get(identifier))


def _name(sock: socket.socket | None) -> tuple[str, int] | None:
    try:
        return None if sock is None else sock.getsockname()[:2]
    except OSError:  # closed
        return None


def _is_open(known: ref[socket.socket] | None) -> bool:
    sock = None if known is None else known()
    return sock is not None and sock.fileno() >= 0
