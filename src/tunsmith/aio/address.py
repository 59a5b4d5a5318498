"""Addresses as people write them and asyncio shows them, and as the pure stack wants them: packed bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from socket import AF_INET, AF_INET6, EAI_NONAME, EAI_SERVICE, gaierror, getservbyname, inet_ntop

from tunsmith.errors import LocalError

Interface = IPv4Interface | IPv6Interface
SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""As sockets have it: host and port, for IPv6 also flow label and scope (both 0 here)."""
Port = int | str
"""A number, or the name of a service ("http")."""
HostPort = tuple[str, Port]


def pack(host: str) -> bytes:
    """The bytes of an IP literal; of an IPv4 address in the clothes of IPv6 those of the former, as sockets have it
    (RFC 4291 §2.5.5.2). Raises gaierror for anything else, as the resolver of a host without names."""
    try:
        address = ip_address(str(host))
    except ValueError:
        raise gaierror(
            EAI_NONAME, f"{host!r} is not an IP address, and this stack resolves no names"
        ) from None
    return (getattr(address, "ipv4_mapped", None) or address).packed


def unpack(address: bytes) -> str:
    """The text of packed `address`."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def socket_address(address: bytes, port: int) -> SocketAddress:
    """What getsockname would say."""
    return (unpack(address), port) if len(address) == 4 else (unpack(address), port, 0, 0)


def check_port(port: int | str | None) -> int:
    """The number of `port`: itself, in digits, or of a service that this machine has a name for, as getaddrinfo takes
    them; None is 0. Raises OverflowError for numbers of no port, as sockets do, gaierror for names of no service."""
    if port is None:
        return 0
    if isinstance(port, str):
        port = int(port) if port.isdecimal() else _service(port)
    if not isinstance(port, int):
        raise TypeError(f"a port is a number, or the name of a service, not {port!r}")
    if not 0 <= port <= 65535:
        raise OverflowError(f"port must be 0-65535, not {port}")
    return port


def _service(name: str) -> int:
    try:
        return getservbyname(name)
    except OSError:
        raise gaierror(EAI_SERVICE, f"no service is called {name!r} on this machine") from None


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


_LOOPBACK6 = bytes(15) + b"\x01"


class Addresses:
    """The addresses of one host. `source(destination)` knows which of them speaks to a packed address, if any;
    `reach_ourselves()` makes a way to them, where somebody wants to speak to himself."""

    def __init__(
        self,
        interfaces: Iterable[Interface],
        source: Callable[[bytes], bytes | None],
        reach_ourselves: Callable[[], None],
    ) -> None:
        self.interfaces = tuple(interfaces)
        self.packed = frozenset(interface.packed for interface in self.interfaces)
        self._source = source
        self._reach_ourselves = reach_ourselves

    def check_destination(self, address: bytes) -> None:
        """Something is about to be sent to `address`. Raises OSError ENETUNREACH for those that no packet may go to
        (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2, §2.5.3)."""
        if address in self.packed:
            self._reach_ourselves()
        elif address[0] == 127 if len(address) == 4 else address == _LOOPBACK6:
            ours = next(
                (unpack(ours) for ours in self.packed if len(ours) == len(address)), "none of the kind"
            )
            raise os_error(
                errno.ENETUNREACH, f"{unpack(address)}: a stack is reached by its own address ({ours})"
            )
        elif not any(address):
            raise os_error(errno.ENETUNREACH, f"{unpack(address)} is nobody's address")

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
