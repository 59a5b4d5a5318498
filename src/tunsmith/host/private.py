"""A network of our own, for this process and those it starts: the ground the demo is built on.

    this process                              helper (stays outside)
    fork -----------------------------------> waits
    unshare user
    "map my ids" ---------------------------> uid_map, gid_map
    unshare net and mount
    loopback, addresses, resolv.conf          ends with the socket

No root is needed, and nothing has to be undone: the namespaces end with the last process in them. A process
cannot write a map of many ids for itself, and cannot read the limits of the namespace it left; hence
the helper, which does the one and explains the other.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NoReturn

from tunsmith.errors import HostError
from tunsmith.host.idmap import map_ids
from tunsmith.host.knobs import why_no_namespace
from tunsmith.host.resolvfiles import hide_name_service
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.syscalls import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, unshare
from tunsmith.host.sysctl import try_sysctl

_ERRNO = struct.Struct("=i")
_MAP_IDS = 0
"""Instead of an errno to explain."""
_DONE = b"."
_NO_IPV6 = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES)
_MESSAGE_LIMIT = 1024


def enter_private_network(addresses: Iterable[IPv4Address | IPv6Address], resolv_conf: str) -> None:
    """Move this process, which must have one thread only, into a network where `addresses` are its own and
    nothing else can be reached; `resolv_conf` is the content of the file there.

    Users and files stay as they are; IPv6 addresses are left out where there is no IPv6. Raises HostError
    that names the switch which forbids it."""
    helper = _Helper()
    try:
        helper.unshare_all()
    finally:
        helper.close()
    try:
        hide_name_service(resolv_conf)
        try_sysctl("net/ipv4/ping_group_range", f"{os.getgid()} {os.getgid()}")
        _configure_loopback(addresses)
    except OSError as error:
        raise HostError(f"cannot set up a private network: {error}") from error


def _configure_loopback(addresses: Iterable[IPv4Address | IPv6Address]) -> None:
    loopback = socket.if_nametoindex("lo")
    with RtNetlink() as netlink:
        netlink.link_up(loopback)
        for address in addresses:
            try:
                netlink.address_add(loopback, address)
            except OSError as error:
                if address.version == 4 or error.errno not in _NO_IPV6:
                    raise


class _Helper:
    """A process in the namespaces that we leave."""

    def __init__(self) -> None:
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            parent, uid, gid = os.getpid(), os.geteuid(), os.getegid()
            self._pid = os.fork()
        except OSError as error:
            raise HostError(f"cannot start a process: {error.strerror}") from error
        if self._pid == 0:
            self._control.close()
            _help(theirs, parent, uid, gid)
        theirs.close()

    def unshare_all(self) -> None:
        try:
            unshare(CLONE_NEWUSER)
            self._ask(_MAP_IDS)
            unshare(CLONE_NEWNET | CLONE_NEWNS)
        except OSError as error:
            self._ask(error.errno or 0)
            raise

    def close(self) -> None:
        self._control.close()
        os.waitpid(self._pid, 0)

    def _ask(self, number: int) -> None:
        self._control.send(_ERRNO.pack(number))
        answer = self._control.recv(_MESSAGE_LIMIT)
        if answer != _DONE:
            raise HostError(answer.decode() or "the process that maps user ids died")


def _help(control: socket.socket, pid: int, uid: int, gid: int) -> NoReturn:
    try:
        while request := control.recv(_ERRNO.size):
            (number,) = _ERRNO.unpack(request)
            control.send(_answer(number, pid, uid, gid))
    finally:
        os._exit(0)


def _answer(number: int, pid: int, uid: int, gid: int) -> bytes:
    error = OSError(number, os.strerror(number))
    if number == _MAP_IDS:
        try:
            map_ids(pid, uid, gid)
            return _DONE
        except OSError as refused:
            error = refused
    return why_no_namespace(error).encode()
