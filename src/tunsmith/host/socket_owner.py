"""Whose is a socket? The kernel tells its inode (sock_diag(7)), /proc which process holds that.

Asked for one connection at a time by its addresses and ports: no dump of all sockets, which can be many.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 0x1
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBxI")
_ENDS = struct.Struct(">HH16s16s")
_AFTER_ENDS = struct.Struct("=IQ")
_ANSWER = struct.Struct("=BBBB")
_INODE = _HEADER.size + 68
"""Of struct inet_diag_msg: state and timers, both ends, expiry, two queues, uid, and then it."""
_NO_COOKIE = (1 << 64) - 1
_CONNECTED, _LISTENS = "01", "0A"


def inode_of(protocol: int, here: tuple[bytes, int], there: tuple[bytes, int]) -> int:
    """The inode of the socket of this machine at `here` that talks to `there` (packed address, port), 0 where that
    cannot be told."""
    family = socket.AF_INET if len(here[0]) == 4 else socket.AF_INET6
    # Of UDP the kernel wants the ends as a packet that comes in has them.
    if protocol == socket.IPPROTO_UDP:
        here, there = there, here
    ends = _ENDS.pack(here[1], there[1], here[0].ljust(16, b"\0"), there[0].ljust(16, b"\0"))
    body = _QUERY.pack(family, protocol, 0, 0xFFFFFFFF) + ends + _AFTER_ENDS.pack(0, _NO_COOKIE)
    request = _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(1)
            diag.send(request)
            answer = diag.recv(8192)
    except OSError:
        return 0
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _BY_FAMILY or len(answer) < _INODE + 4:
        return 0
    inode: int = struct.unpack_from("=I", answer, _INODE)[0]
    return inode


def listeners_at(port: int) -> frozenset[int]:
    """The processes that hold a socket listening at TCP `port`, at whatever address."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    return frozenset(pid for pid in _processes() if inodes & _sockets(pid)) if inodes else frozenset()


def holds(pid: int, inode: int) -> bool:
    """Whether process `pid` has the socket open."""
    return f"socket:[{inode}]" in _sockets(pid)


def name_of(pid: int) -> str:
    """What the process is called, "" where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def peers_of(processes: Collection[int]) -> set[IPv4Address | IPv6Address]:
    """The addresses that `processes` are connected to, by TCP or UDP; this machine itself is not among them."""
    sockets = set().union(*map(_sockets, processes))
    found = set()
    for _, remote, state, inode in _lines("tcp", "tcp6", "udp", "udp6"):
        if state == _CONNECTED and f"socket:[{inode}]" in sockets:
            found.add(_address(remote))
    return {address for address in found if not (address.is_loopback or address.is_unspecified)}


def _listening(port: int) -> Iterator[str]:
    for local, _, state, inode in _lines("tcp", "tcp6"):
        if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
            yield inode


def _lines(*tables: str) -> Iterator[tuple[str, str, str, str]]:
    """Local and remote end, state and inode of each socket, as /proc/net has them."""
    for table in tables:
        try:
            lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            yield fields[1], fields[2], fields[3], fields[9]


def _address(end: str) -> IPv4Address | IPv6Address:
    """Of words in host order, in hexadecimal."""
    digits = end.rpartition(":")[0]
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    address = ip_address(struct.pack(f"={len(words)}I", *words))
    return getattr(address, "ipv4_mapped", None) or address


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _sockets(pid: int) -> set[str]:
    """What its descriptors lead to."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
    except OSError:
        pass
    return found
