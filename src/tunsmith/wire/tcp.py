"""TCP header and options, RFC 9293 §3.1, RFC 7323 (window scale, timestamps), RFC 2018 (SACK)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from tunsmith.wire.checksum import Buffer

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

TCP = Struct(">HHIIHHHH")
"""source port, destination port, seq, ack, offset and flags, window, checksum, urgent pointer."""

HEADER_LENGTH = 20
TIMESTAMP_WORD = 0x0101080A
"""NOP, NOP, kind 8, length 10: the layout of the timestamp option that every stack sends."""
TIMESTAMP_LENGTH = 12
CHECKSUM_OFFSET = 16

SYN_LAYOUT = Struct(">HHHHII3sB")
SYN_KINDS = (0x0204, 0x0402, 0x080A, b"\x01\x03\x03")
"""MSS, SACK permitted, timestamp, NOP, window scale: the options of a SYN as Linux sends them, read and
written in one piece because every connection has two."""


@dataclass(slots=True)
class TcpOptions:
    """Options of one segment; None or empty where absent. SACK edges are 32-bit wire values."""

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    timestamp: tuple[int, int] | None = None
    sack: tuple[tuple[int, int], ...] = ()
    ecn: bool = False
    """Of a SYN: it agrees on ECN. That is said by flags (RFC 3168 §6.1.1), but agreed on like an option."""


def parse_options(data: Buffer) -> TcpOptions:
    """Parse the options field. Malformed trailing options end the list, as RFC 9293 §3.2 MUST-7 asks
    for robustness: what was understood before them counts. Never raises."""
    if len(data) == SYN_LAYOUT.size:
        head, mss, permitted, stamp, tsval, tsecr, tail, scale = SYN_LAYOUT.unpack(data)
        if (head, permitted, stamp, tail) == SYN_KINDS:
            return TcpOptions(mss, min(scale, 14), True, (tsval, tsecr))
    data = bytes(data)
    options = TcpOptions()
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= end:
            break
        length = data[at + 1]
        if length < 2 or at + length > end:
            break
        body = data[at + 2 : at + length]
        if kind == 2 and length == 4:
            options.mss = int.from_bytes(body, "big")
        elif kind == 3 and length == 3:
            options.window_scale = min(body[0], 14)  # RFC 7323 §2.3
        elif kind == 4 and length == 2:
            options.sack_permitted = True
        elif kind == 8 and length == 10:
            options.timestamp = (int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big"))
        elif kind == 5 and length >= 10 and (length - 2) % 8 == 0:
            options.sack = tuple(
                (int.from_bytes(body[i : i + 4], "big"), int.from_bytes(body[i + 4 : i + 8], "big"))
                for i in range(0, length - 2, 8)
            )
        at += length
    return options


def build_options(options: TcpOptions) -> bytes:
    """Encode, padded with NOPs to whole words."""
    mss, scale, stamp = options.mss, options.window_scale, options.timestamp
    if (
        mss is not None
        and scale is not None
        and stamp is not None
        and options.sack_permitted
        and not options.sack
    ):
        head, permitted, kind, tail = SYN_KINDS
        return SYN_LAYOUT.pack(head, mss, permitted, kind, *stamp, tail, scale)
    out = b""
    if options.mss is not None:
        out += b"\x02\x04" + options.mss.to_bytes(2, "big")
    if options.sack_permitted:
        out += b"\x01\x01\x04\x02"
    if options.timestamp is not None:
        out += b"\x01\x01\x08\x0a" + b"".join(value.to_bytes(4, "big") for value in options.timestamp)
    if options.window_scale is not None:
        out += b"\x01\x03\x03" + bytes((options.window_scale,))
    if options.sack:
        out += bytes((1, 1, 5, 2 + 8 * len(options.sack)))
        out += b"".join(edge.to_bytes(4, "big") for block in options.sack for edge in block)
    return out
