"""The few rtnetlink requests that bring a fresh network namespace to life.

Written by hand because importing pyroute2 costs 150 ms, half of what `tunsmith run -- true` may take
in all. Only requests with an acknowledgement, no dumps and no events: rtnetlink(7), RFC 3549. All
integers are in host order, addresses in network order.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType

NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH = 16, 20, 24, 28
IFF_UP = 0x1
IFLA_MTU = 4
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD = 0x02
RTA_OIF = 4
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST, RT_SCOPE_LINK = 254, 3, 1, 253

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


class RtNetlink:
    """A netlink socket of the network namespace it was made in. Use as a context manager.

    Every method waits for the kernel's acknowledgement and raises OSError with its errno."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> RtNetlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._socket.close()

    def link_up(self, index: int, mtu: int | None = None) -> None:
        """Set interface `index` up, with `mtu` bytes where given."""
        attributes = b"" if mtu is None else _attribute(IFLA_MTU, struct.pack("=I", mtu))
        self._request(RTM_NEWLINK, 0, _IFINFO.pack(socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP) + attributes)

    def address_add(
        self, index: int, address: IPv4Address | IPv6Address, peer: IPv4Address | IPv6Address | None = None
    ) -> None:
        """Give interface `index` the host address `address` (/32 or /128), usable at once
        (no duplicate address detection, RFC 4862). With `peer`, the other end of a point-to-point link, the
        kernel adds the route to that end."""
        head = _IFADDR.pack(_family(address), address.max_prefixlen, IFA_F_NODAD, 0, index)
        body = head + _attribute(IFA_LOCAL, address.packed)
        body += _attribute(IFA_ADDRESS, (peer or address).packed)
        self._request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def default_route_add(self, index: int, family: int) -> None:
        """Send everything of `family` that has no better route out of interface `index`."""
        head = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST, 0)
        body = head + _attribute(RTA_OIF, struct.pack("=i", index))
        self._request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)

    def neighbour_add(self, index: int, address: IPv4Address | IPv6Address, mac: bytes) -> None:
        """Say once and for all that `address` is at `mac` on the Ethernet interface `index`."""
        head = _NEIGHBOUR.pack(_family(address), index, NUD_PERMANENT, 0, 0)
        body = head + _attribute(NDA_DST, address.packed) + _attribute(NDA_LLADDR, mac)
        self._request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, body)

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, kind, flags | NLM_F_REQUEST | NLM_F_ACK, self._sequence, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(4096)
        _, answer_kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if answer_kind != NLMSG_ERROR or sequence != self._sequence:
            raise OSError(f"unexpected netlink answer {answer_kind}")
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))


def _family(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding
