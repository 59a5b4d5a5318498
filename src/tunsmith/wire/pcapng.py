"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian, one section, raw IP packets.

Every function returns one whole block, so a file is any concatenation of them that starts with a
section header and has an interface in front of the first packet. Times are nanoseconds since the epoch.
"""

from __future__ import annotations

from struct import Struct

from tunsmith.wire.checksum import Buffer

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
"""The packet begins with its IPv4 or IPv6 header; the version nibble tells which."""

_SECTION_HEADER, _INTERFACE, _NAMES, _STATISTICS, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 4, 5, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF

_END_OF_OPTIONS = bytes(4)
_COMMENT = 1
_SECTION_OS, _SECTION_APPLICATION = 3, 4
_INTERFACE_NAME, _INTERFACE_TIME_RESOLUTION = 2, 9
_PACKET_FLAGS = 2
_STATISTICS_RECEIVED, _STATISTICS_DROPPED = 4, 5

_INBOUND, _OUTBOUND = 1, 2
_NANOSECONDS = bytes((9,))
_NAME_IPV4, _NAME_IPV6 = 1, 2
_LONGEST = 0xFFFF

_FRAME = Struct("<II")
_LENGTH = Struct("<I")
_OPTION = Struct("<HH")
_SECTION_BODY = Struct("<IHHQ")
_INTERFACE_BODY = Struct("<HHI")
_PACKET_BODY = Struct("<IIIII")
_STATISTICS_BODY = Struct("<III")
_U64 = Struct("<Q")


def section_header(application: str, os: str = "") -> bytes:
    """The block every file begins with; its length is left open, as for any stream."""
    options = _text(_SECTION_OS, os) + _text(_SECTION_APPLICATION, application)
    return _block(_SECTION_HEADER, options, _SECTION_BODY.pack(_BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN))


def interface(name: str, snaplen: int = 0, link_type: int = LINKTYPE_RAW) -> bytes:
    """The description of an interface, of raw IP packets usually; the first is number 0. Snaplen 0: no limit."""
    options = _text(_INTERFACE_NAME, name) + _option(_INTERFACE_TIME_RESOLUTION, _NANOSECONDS)
    return _block(_INTERFACE, options, _INTERFACE_BODY.pack(link_type, 0, snaplen))


def packet(
    captured: Buffer, length: int, when_ns: int, *, outbound: bool, comment: str = "", number: int = 0
) -> bytes:
    """One packet of `length` bytes, of which `captured` was kept, on interface `number`."""
    options = _text(_COMMENT, comment) + _option(
        _PACKET_FLAGS, _LENGTH.pack(_OUTBOUND if outbound else _INBOUND)
    )
    body = _PACKET_BODY.pack(number, when_ns >> 32, when_ns & 0xFFFFFFFF, len(captured), length)
    return _block(_ENHANCED_PACKET, options, body, captured, bytes(-len(captured) % 4))


def name_resolution(address: bytes, name: str) -> bytes:
    """That `address` (packed, 4 or 16 bytes) is called `name`."""
    record = address + name.encode(errors="replace")[: _LONGEST - 17] + b"\0"
    kind = _NAME_IPV4 if len(address) == 4 else _NAME_IPV6
    return _block(_NAMES, b"", _option(kind, record), _END_OF_OPTIONS)


def interface_statistics(when_ns: int, received: int, dropped: int, number: int = 0) -> bytes:
    """How many packets an interface saw, and how many of them are missing from the file."""
    options = _option(_STATISTICS_RECEIVED, _U64.pack(received)) + _option(
        _STATISTICS_DROPPED, _U64.pack(dropped)
    )
    return _block(_STATISTICS, options, _STATISTICS_BODY.pack(number, when_ns >> 32, when_ns & 0xFFFFFFFF))


def _block(kind: int, options: bytes, *body: Buffer) -> bytes:
    if options:
        options += _END_OF_OPTIONS
    length = _FRAME.size + sum(map(len, body)) + len(options) + _LENGTH.size
    return b"".join((_FRAME.pack(kind, length), *body, options, _LENGTH.pack(length)))


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, value: str) -> bytes:
    """A UTF-8 option, or nothing for an empty string."""
    return _option(code, value.encode(errors="replace")[:_LONGEST]) if value else b""
