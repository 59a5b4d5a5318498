"""Addresses as people write them and asyncio shows them, and as the pure stack wants them: packed bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from socket import AF_INET, AF_INET6, EAI_NONAME, gaierror, inet_ntop

from tunsmith.errors import LocalError

Interface = IPv4Interface | IPv6Interface
SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""As sockets have it: host and port, for IPv6 also flow label and scope (both 0 here)."""
HostPort = tuple[str, int]


def pack(host: str) -> bytes:
    """The bytes of an IP literal. Raises gaierror for anything else, as the resolver of a host without names."""
    try:
        return ip_address(host).packed
    except ValueError:
        raise gaierror(
            EAI_NONAME, f"{host!r} is not an IP address, and this stack resolves no names"
        ) from None


def unpack(address: bytes) -> str:
    """The text of packed `address`."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def socket_address(address: bytes, port: int) -> SocketAddress:
    """What getsockname would say."""
    return (unpack(address), port) if len(address) == 4 else (unpack(address), port, 0, 0)


def check_port(port: int) -> int:
    """`port`, if it is one. Raises OverflowError otherwise, as sockets do."""
    if not 0 <= port <= 65535:
        raise OverflowError(f"port must be 0-65535, not {port}")
    return port


def os_error(code: int, subject: str = "") -> OSError:
    """The OSError for an errno, as the subclass that belongs to it (ConnectionResetError, TimeoutError, …)."""
    return OSError(code, f"{os.strerror(code)}: {subject}" if subject else os.strerror(code))


@contextmanager
def os_errors() -> Iterator[None]:
    """What the pure stack refuses becomes an OSError."""
    try:
        yield
    except LocalError as error:
        raise os_error(error.errno, str(error)) from None


@contextmanager
def named_timeout(what: str) -> Iterator[None]:
    """A bare TimeoutError, as asyncio.timeout raises it, says `what` and ETIMEDOUT."""
    try:
        yield
    except TimeoutError as error:
        if error.errno is not None:
            raise
        raise os_error(errno.ETIMEDOUT, what) from None


class Addresses:
    """The addresses of one host. `source(destination)` knows which of them speaks to a packed address, if any."""

    def __init__(self, interfaces: Iterable[Interface], source: Callable[[bytes], bytes | None]) -> None:
        self.interfaces = tuple(interfaces)
        self.packed = frozenset(interface.packed for interface in self.interfaces)
        self._source = source

    def listening(self, hosts: str | Sequence[str] | None) -> list[bytes]:
        """Which of ours `hosts` names: some, by name; all of a kind, "0.0.0.0" or "::"; all, None. Raises OSError
        EADDRNOTAVAIL for what is not ours."""
        found: list[bytes] = []
        for host in ("0.0.0.0", "::") if not hosts else (hosts,) if isinstance(hosts, str) else hosts:
            address = pack(host)
            if not any(address):
                found += [ours.packed for ours in self.interfaces if len(ours.packed) == len(address)]
            elif address in self.packed:
                found.append(address)
            else:
                raise os_error(errno.EADDRNOTAVAIL, f"{host} is no address of this stack")
        if not found:
            raise os_error(errno.EADDRNOTAVAIL, f"this stack has no address for {hosts or 'anybody'}")
        return list(dict.fromkeys(found))

    def source_for(self, destination: bytes) -> bytes:
        """Which of ours speaks to `destination`. Raises OSError: ENETUNREACH without a way there, EADDRNOTAVAIL
        without an address of its kind."""
        source = self._source(destination)
        if source is None:
            if any(len(ours) == len(destination) for ours in self.packed):
                raise os_error(errno.ENETUNREACH, unpack(destination))
            version = 4 if len(destination) == 4 else 6
            raise os_error(
                errno.EADDRNOTAVAIL, f"no IPv{version} address to reach {unpack(destination)} from"
            )
        return source
