"""Lines of a script to packets, and packets to what can be held against lines.

A `Wire` knows the two ends of the conversation and what their relative numbers are relative to. The text
of both sides is the same known pattern, so that every byte can be checked by its position alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunsmith.errors import WireError
from tunsmith.testing.script.statements import FLAGS, IcmpLine, SegmentLine
from tunsmith.wire.checksum import finish, ones_sum, pseudo_sum
from tunsmith.wire.icmp import IcmpError, build_error, is_error, meaning_of
from tunsmith.wire.ip import IpFamily, parse_ip
from tunsmith.wire.tcp import ACK, SYN, TCP, TcpOptions, build_options, parse_options

ADDRESSES = {
    4: (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 9))),
    6: (bytes.fromhex("20010db8") + bytes(11) + b"\x01", bytes.fromhex("20010db8") + bytes(11) + b"\x09"),
}
"""The peer's, the stack's."""
PORTS = (40000, 80)
ECN_WORDS = ("not-ect", "ect1", "ect", "ce")
DEFAULT_WINDOW = 65535
_PERIOD = 251
_TEXT = bytes(range(_PERIOD)) * 300


def text(position: int, length: int) -> bytes:
    """What either side sends at `position` (1 is the first byte) of its stream."""
    begin = position % _PERIOD
    if begin + length <= len(_TEXT):
        return _TEXT[begin : begin + length]
    return b"".join(_TEXT[(position + at) % _PERIOD :][:1] for at in range(length))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the stack sent: a segment with relative numbers, or an ICMP error."""

    at: float
    flags: int = 0
    seq: int = 0
    ack: int = 0
    window: int = 0
    urgent: int = 0
    data: bytes = b""
    options: TcpOptions | None = None
    stamp: tuple[int, int] | None = None
    sack: tuple[tuple[int, int], ...] = ()
    port: int = PORTS[0]
    ecn: int = 0
    icmp: IcmpError | None = None

    def __str__(self) -> str:
        if self.icmp is not None:
            return f"icmp {word_of(self.icmp)}"
        return describe(self)


def describe(seen: Seen) -> str:
    """A segment in the language of the scripts."""
    words = [flag_names(seen.flags), f"{seen.seq}+{len(seen.data)}" if seen.data else f"{seen.seq}"]
    if seen.flags & ACK:
        words.append(f"ack {seen.ack}")
    words.append(f"win {seen.window}")
    options = seen.options or TcpOptions()
    if options.mss is not None:
        words.append(f"mss {options.mss}")
    if options.window_scale is not None:
        words.append(f"wscale {options.window_scale}")
    if options.sack_permitted:
        words.append("sackok")
    if seen.stamp is not None:
        words.append(f"ts {seen.stamp[0]}/{seen.stamp[1]}")
    if seen.sack:
        words += ["sack", *(f"{left}:{right}" for left, right in seen.sack)]
    if seen.port != PORTS[0]:
        words.append(f"port {seen.port}")
    if seen.ecn:
        words.append(ECN_WORDS[seen.ecn])
    return " ".join(words)


def flag_names(flags: int) -> str:
    """`SYN,ACK`."""
    return ",".join(name for name, bit in FLAGS.items() if flags & bit) or "none"


def word_of(error: IcmpError) -> str:
    """An ICMP error in the language of the scripts."""
    return error.name.lower().replace("_", "-")


def error_named(word: str) -> IcmpError:
    """The other way round."""
    return next(error for error in IcmpError if word_of(error) == word)


def _relative(number: int, base: int) -> int:
    return (number - base + (1 << 31)) % (1 << 32) - (1 << 31)


class Wire:
    """The peer's network card. `isn` is the peer's initial sequence number; that of the stack is learned
    from its SYN (until then 0), and the beginning of its timestamps likewise."""

    def __init__(self, family: IpFamily, isn: int, mtu: int, ports: tuple[int, int] = PORTS) -> None:
        self.family = family
        self.isn = isn
        self.mtu = mtu
        self.ports = ports
        self.iss = 0
        self._clock: int | None = None
        self.peer, self.stack = ADDRESSES[family.version]

    @property
    def mss(self) -> int:
        """The largest segment that the link carries."""
        return self.mtu - self.family.header_length - 20

    # --- from the peer ---

    def segment(self, line: SegmentLine) -> bytes:
        """The packet that `line` has the peer send."""
        options = self._options(line) if line.raw is None else line.raw
        data = text(line.seq, line.length)
        if line.other:
            data = bytes(byte ^ 0xFF for byte in data)
        window = DEFAULT_WINDOW if line.window is None else int(line.window.low)
        ports = (line.port or self.ports[0], self.ports[1])
        head = TCP.pack(
            *ports,
            (self.isn + line.seq) & 0xFFFFFFFF,
            0 if line.ack is None else (self.iss + line.ack) & 0xFFFFFFFF,
            (20 + len(options)) << 10 | line.flags,
            window,
            0,
            line.urgent or 0,
        )
        segment = head + options + data
        total = pseudo_sum(self.peer + self.stack, 6, len(segment)) + ones_sum(segment)
        checksum = finish(total + line.damaged).to_bytes(2, "big")
        segment = segment[:16] + checksum + segment[18:]
        header = self.family.header(self.peer, self.stack, 6, len(segment), traffic_class=line.ecn or 0)
        return header + segment

    def _options(self, line: SegmentLine) -> bytes:
        stamp = None
        if line.stamp is not None:
            value, echo = line.stamp
            stamp = ((value or 0) & 0xFFFFFFFF, ((echo or 0) + (self._clock or 0)) & 0xFFFFFFFF)
        blocks = tuple(tuple((self.iss + edge) & 0xFFFFFFFF for edge in block) for block in line.sack)
        return build_options(
            TcpOptions(
                mss=self.mss if line.mss == 0 else line.mss,
                window_scale=line.scale,
                sack_permitted=line.sack_permitted,
                timestamp=stamp,
                sack=blocks,  # type: ignore[arg-type]  # pairs they are
            )
        )

    def error(self, line: IcmpLine) -> bytes:
        """The ICMP error that `line` has the peer send, about a segment of the stack."""
        assert line.seq is not None
        error = error_named(line.error)
        segment = TCP.pack(
            self.ports[1], self.ports[0], (self.iss + line.seq) & 0xFFFFFFFF, 0, 0x5010, 0, 0, 0
        )
        quoted = self.family.header(self.stack, self.peer, 6, len(segment)) + segment
        mtu = line.mss + self.family.header_length + 20 if line.mss else line.mtu
        return build_error(self.family, self.peer, self.stack, error, quoted, mtu)

    # --- from the stack ---

    def decode(self, packet: bytes, at: float) -> Seen:
        """What the stack sent, after the checks that a host makes. Raises AssertionError."""
        try:
            ip = parse_ip(packet)
        except WireError as error:
            raise AssertionError(f"the stack sent a packet that is none: {error}") from None
        assert (ip.source, ip.destination) == (self.stack, self.peer), "the stack sent to or from elsewhere"
        payload = packet[ip.header_length : ip.total_length]
        if ip.protocol == self.family.icmp:
            assert is_error(self.family, payload[0]), "the stack sent ICMP that is no error"
            return Seen(at, icmp=meaning_of(self.family, payload[0], payload[1]))
        assert ip.protocol == 6, f"the stack sent protocol {ip.protocol}"
        total = pseudo_sum(ip.source + ip.destination, 6, len(payload)) + ones_sum(payload)
        assert total % 0xFFFF == 0, "the stack sent a wrong checksum"
        assert len(packet) <= self.mtu, "the stack sent more than the link carries"
        return self._decode_segment(payload, at, ip.traffic_class & 3)

    def _decode_segment(self, payload: bytes, at: float, ecn: int) -> Seen:
        port, to, seq, ack, offset_flags, window, _, urgent = TCP.unpack_from(payload)
        assert port == self.ports[1], f"the stack sent from port {port}"
        flags = offset_flags & 0xFF
        begin = (offset_flags >> 12) * 4
        options = parse_options(payload[20:begin])
        if flags & SYN:
            self.iss = seq
        stamp = None
        if options.timestamp is not None:
            value, echo = options.timestamp
            if self._clock is None:
                self._clock = value
            stamp = (value - self._clock) & 0xFFFFFFFF, echo
        return Seen(
            at,
            flags,
            _relative(seq, self.iss),
            _relative(ack, self.isn) if flags & ACK else ack,
            window,
            urgent,
            payload[begin:],
            options,
            stamp,
            tuple((_relative(left, self.isn), _relative(right, self.isn)) for left, right in options.sack),
            PORTS[0] + to - self.ports[0],
            ecn,
        )
