"""The ports on which programs of this machine serve: sock_diag(7), which has the kernel pick them.

/proc/net/tcp lists every connection there is; with 100,000 of them it takes a second. It is read where the kernel
has no sock_diag for us.
"""

from __future__ import annotations

import socket
import struct

from tunsmith.host.netlink.channel import Netlink

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48x")
"""Family, protocol, extensions, states; of any address."""
_PORT = struct.Struct("!H")
_PORT_AT = 4
_LISTENING, _UNCONNECTED = 10, 7
_KINDS = ((socket.IPPROTO_TCP, _LISTENING, "tcp"), (socket.IPPROTO_UDP, _UNCONNECTED, "udp"))


def served_ports() -> frozenset[int]:
    """The ports of listening TCP sockets, and of unconnected UDP sockets that were not given a port by chance:
    those below the range that clients get theirs from."""
    found: set[int] = set()
    first, last = _range_of_clients()
    for protocol, state, file in _KINDS:
        try:
            ports = _asked(protocol, state)
        except OSError:
            ports = _read(file, state)
        if protocol == socket.IPPROTO_UDP:
            ports = {port for port in ports if not first <= port <= last}
        found |= ports
    return frozenset(found - {0})


def _asked(protocol: int, state: int) -> set[int]:
    found = set()
    with Netlink(_NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, protocol, 0, 1 << state)
            for message in netlink.dump(_SOCK_DIAG_BY_FAMILY, request):
                found.add(_PORT.unpack_from(message, _PORT_AT)[0])
    return found


def _read(name: str, state: int) -> set[int]:
    found = set()
    for path in (f"/proc/net/{name}", f"/proc/net/{name}6"):
        try:
            with open(path, encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if int(words[3], 16) == state:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def _range_of_clients() -> tuple[int, int]:
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first, last = file.read().split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(first), int(last)
