"""SOCKS5 (RFC 1928) and its user/password sub-negotiation (RFC 1929): bytes, no conversation.

Every `parse_*` of the TCP side takes all bytes heard so far and answers `(value, size)`, where `size` bytes
are used up, or None while more are needed; no message exceeds 513 bytes, so neither can the wait. What
cannot become a message any more raises WireError. Client and server halves are both here.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from tunsmith.errors import WireError

VERSION = 5
AUTH_VERSION = 1
MAX_FIELD = 255
"""Bytes in a user name, a password or a domain name: each has one byte of length."""

Buffer = bytes | bytearray | memoryview
Address = tuple[str, int]
"""Host (an IP literal or a name, "" where a server gave an empty name) and port."""


class Method(IntEnum):
    """How the client proves who it is (RFC 1928 §3)."""

    NONE = 0
    PASSWORD = 2
    NO_ACCEPTABLE = 0xFF


class Command(IntEnum):
    """What the client asks for (RFC 1928 §4)."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply(IntEnum):
    """What became of it (RFC 1928 §6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_UNSUPPORTED = 7
    ADDRESS_TYPE_UNSUPPORTED = 8


_IPV4, _NAME, _IPV6 = 1, 3, 4
_UDP_PREFIX = b"\0\0\0"
"""Reserved, reserved, fragment number 0 (RFC 1928 §7)."""
_UDP_PREFIX_SIZE = len(_UDP_PREFIX)


def address(host: str, port: int) -> bytes:
    """ATYP, address and port. Raises WireError for a name that does not fit (1 to 255 bytes of ASCII)."""
    try:
        literal = ip_address(host)
    except ValueError:
        name = host.encode("ascii", "replace")
        if not 0 < len(name) <= MAX_FIELD or not host.isascii():
            raise WireError("name", f"{host!r} cannot be a SOCKS5 domain name") from None
        return bytes((_NAME, len(name))) + name + port.to_bytes(2, "big")
    kind = _IPV4 if literal.version == 4 else _IPV6
    return bytes((kind,)) + literal.packed + port.to_bytes(2, "big")


def parse_address(data: Buffer, start: int = 0) -> tuple[Address, int] | None:
    """The address at `start` and where it ends. Raises WireError (address type, name)."""
    if len(data) <= start:
        return None
    kind = data[start]
    head = start + 1
    if kind == _IPV4:
        size = 4
    elif kind == _IPV6:
        size = 16
    elif kind == _NAME:
        if len(data) <= head:
            return None
        size = data[head]
        head += 1
    else:
        raise WireError("address type", f"address type {kind} is none of SOCKS5")
    end = head + size + 2
    if len(data) < end:
        return None
    raw = bytes(data[head : head + size])
    port = int.from_bytes(data[head + size : end], "big")
    return (_host(kind, raw), port), end


def _host(kind: int, raw: bytes) -> str:
    if kind == _IPV4:
        return str(IPv4Address(raw))
    if kind == _IPV6:
        return str(IPv6Address(raw))
    if not raw.isascii():
        raise WireError("name", "a SOCKS5 domain name that is not ASCII")
    return raw.decode("ascii")


def greeting(*methods: Method) -> bytes:
    """The client's offer."""
    return bytes((VERSION, len(methods), *methods))


def parse_greeting(data: Buffer) -> tuple[frozenset[int], int] | None:
    """The methods a client offers."""
    _expect_version(data, VERSION)
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    end = 2 + data[1]
    return frozenset(bytes(data[2:end])), end


def choice(method: Method) -> bytes:
    """The server's answer to the greeting."""
    return bytes((VERSION, method))


def parse_choice(data: Buffer) -> tuple[int, int] | None:
    """The method the server chose."""
    _expect_version(data, VERSION)
    return None if len(data) < 2 else (data[1], 2)


def credentials(user: bytes, password: bytes) -> bytes:
    """RFC 1929: who the client is. Raises WireError where a field does not fit in 255 bytes.

    An empty password is against the RFC's letter, and what curl sends for `user@host`."""
    if not 0 < len(user) <= MAX_FIELD or len(password) > MAX_FIELD:
        raise WireError("credentials", f"a SOCKS5 user name or password has at most {MAX_FIELD} bytes")
    return bytes((AUTH_VERSION, len(user))) + user + bytes((len(password),)) + password


def parse_credentials(data: Buffer) -> tuple[tuple[bytes, bytes], int] | None:
    """User name and password as a server hears them."""
    _expect_version(data, AUTH_VERSION)
    if len(data) < 2:
        return None
    middle = 2 + data[1]
    if len(data) <= middle:
        return None
    end = middle + 1 + data[middle]
    if len(data) < end:
        return None
    return (bytes(data[2:middle]), bytes(data[middle + 1 : end])), end


def verdict(accepted: bool) -> bytes:
    """The server's answer to the credentials."""
    return bytes((AUTH_VERSION, 0 if accepted else 1))


def parse_verdict(data: Buffer) -> tuple[bool, int] | None:
    """Whether the server took the credentials. Some servers put their SOCKS version here: let them."""
    if data and data[0] != VERSION:
        _expect_version(data, AUTH_VERSION)
    return None if len(data) < 2 else (data[1] == 0, 2)


def request(command: Command, host: str, port: int) -> bytes:
    """What the client wants. Raises WireError as `address` does."""
    return bytes((VERSION, command, 0)) + address(host, port)


def parse_request(data: Buffer) -> tuple[tuple[int, Address], int] | None:
    """`(command, address)` as a server hears it; the command may be unknown. The error of an unknown
    address type has the reason "address type"."""
    _expect_version(data, VERSION)
    parsed = parse_address(data, 3)
    return None if parsed is None else ((data[1], parsed[0]), parsed[1])


def reply(code: Reply, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The server's answer to a request, with the address it bound."""
    return bytes((VERSION, code, 0)) + address(host, port)


def parse_reply(data: Buffer) -> tuple[tuple[int, Address], int] | None:
    """`(code, bound address)`; the code may be unknown. A failure is told from its first two bytes, with no
    address: nothing else in it is of use, and there are servers that hang up without sending the rest."""
    _expect_version(data, VERSION)
    if len(data) < 2:
        return None
    if data[1] != Reply.SUCCEEDED:
        return (data[1], ("", 0)), len(data)
    parsed = parse_address(data, 3)
    return None if parsed is None else ((data[1], parsed[0]), parsed[1])


def datagram_header(host: str, port: int) -> bytes:
    """What precedes the payload in a UDP datagram. Raises WireError as `address` does."""
    return _UDP_PREFIX + address(host, port)


def datagram_header_size(data: Buffer) -> int:
    """How many bytes of `data` are header. Raises WireError (short, fragment, address type).

    Cheap, so that a receiver can look the header up whole among those it has met."""
    if len(data) < 5:
        raise WireError("short")
    if data[2]:
        raise WireError("fragment", "SOCKS5 fragments are optional (RFC 1928 §7) and not reassembled")
    kind = data[3]
    if kind == _IPV4:
        size = 10
    elif kind == _IPV6:
        size = 22
    elif kind == _NAME:
        size = 7 + data[4]
    else:
        raise WireError("address type")
    if len(data) < size:
        raise WireError("short")
    return size


def parse_datagram_header(header: Buffer) -> Address:
    """The address in a header of `datagram_header_size` bytes. Raises WireError (name)."""
    parsed = parse_address(header, _UDP_PREFIX_SIZE)
    if parsed is None:
        raise WireError("short")
    return parsed[0]


def _expect_version(data: Buffer, version: int) -> None:
    if data and data[0] != version:
        raise WireError("version", f"the first byte is {data[0]}, not {version}")
