"""A reader of pcapng, written from the specification and not from our writer, to judge files by."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import calcsize, unpack_from


@dataclass
class Packet:
    when: int
    data: bytes
    length: int
    options: dict[int, bytes]


@dataclass
class Recording:
    interfaces: list[tuple[int, int, dict[int, bytes]]] = field(default_factory=list)
    """linktype, snaplen, options"""
    packets: list[Packet] = field(default_factory=list)
    names: list[tuple[bytes, str]] = field(default_factory=list)
    section: dict[int, bytes] = field(default_factory=dict)
    statistics: list[tuple[int, dict[int, bytes]]] = field(default_factory=list)


def read(data: bytes) -> Recording:
    """Everything in a file; raises AssertionError where it breaks the format."""
    recording, at = Recording(), 0
    while at < len(data):
        kind, length = unpack_from("<II", data, at)
        assert length % 4 == 0
        assert at + length <= len(data), "the last block is cut off"
        assert unpack_from("<I", data, at + length - 4) == (length,)
        assert at > 0 or kind == 0x0A0D0D0A
        _block(recording, kind, data[at + 8 : at + length - 4])
        at += length
    return recording


def _block(recording: Recording, kind: int, body: bytes) -> None:
    if kind == 0x0A0D0D0A:
        magic, major, minor, _ = unpack_from("<IHHq", body)
        assert (magic, major, minor) == (0x1A2B3C4D, 1, 0)
        recording.section = _options(body[calcsize("<IHHq") :])
    elif kind == 1:
        linktype, reserved, snaplen = unpack_from("<HHI", body)
        assert reserved == 0
        recording.interfaces.append((linktype, snaplen, _options(body[8:])))
    elif kind == 6:
        interface, high, low, captured, length = unpack_from("<IIIII", body)
        assert interface < len(recording.interfaces)
        end = 20 + captured
        options = _options(body[end + -end % 4 :])
        recording.packets.append(Packet(high << 32 | low, body[20:end], length, options))
    elif kind == 4:
        for record, value in _options(body).items():
            size = {1: 4, 2: 16}[record]
            assert value.endswith(b"\0")
            recording.names.append((value[:size], value[size:-1].decode()))
    else:
        assert kind == 5
        interface, high, low = unpack_from("<III", body)
        assert interface < len(recording.interfaces)
        recording.statistics.append((high << 32 | low, _options(body[12:])))


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        code, length = unpack_from("<HH", data, at)
        if code == 0:
            assert (length, at + 4) == (0, len(data))
            return found
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    assert not data, "options without an end"
    return found
