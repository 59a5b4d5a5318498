"""Attributes of netlink messages: type, length and value, each padded to four bytes (netlink(7)).

Integers are in host order; addresses are in network order.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("=HH")
NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_U32 = struct.Struct("=I")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return HEADER.pack(HEADER.size + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """An attribute that is an unsigned integer of 32 bits."""
    return attribute(kind, _U32.pack(value))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a name, with the byte 0 at its end."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes in `data` from `at` on, by type; the last of a type counts. What is cut short is left out."""
    found = {}
    end = len(data)
    while end - at >= HEADER.size:
        length, kind = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > end:
            break
        found[kind & _TYPE_MASK] = data[at + HEADER.size : at + length]
        at += length + 3 & ~3
    return found


def as_number(value: bytes | None, default: int = 0) -> int:
    """What `number` packed; `default` where there is none."""
    if value is None or len(value) < _U32.size:
        return default
    found: int = _U32.unpack_from(value)[0]
    return found


def as_text(value: bytes | None) -> str:
    """What `text` packed; "" where there is none."""
    return "" if value is None else value.partition(b"\0")[0].decode("utf-8", "replace")
