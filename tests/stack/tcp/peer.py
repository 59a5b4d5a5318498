"""The other end of a connection, by hand: a test writes each segment and reads each answer.

Sequence and acknowledgment numbers are relative: the SYN of either side is 0, its first byte 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import (
    Closed,
    Established,
    Event,
    FlowRequested,
    Incoming,
    PeerClosed,
    Readable,
    Writable,
)
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.checksum import finish, ones_sum, pseudo_sum
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip
from tunsmith.wire.offload import complete_checksum
from tunsmith.wire.tcp import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SYN,
    TCP,
    URG,
    TcpOptions,
    build_options,
    parse_options,
)
from tunsmith.wire.vnet import VNET, VNET_HDR_LEN

LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": ECE, "W": CWR}
ADDRESSES = {
    IPV4: (b"\x0a\0\0\x01", b"\x0a\0\0\x02"),
    IPV6: (b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"),
}
PORTS = (40000, 80)
PLAIN_CONFIG = StackConfig(
    timestamps=False, sack=False, window_scaling=False, time_wait=10.0, receive_buffer_limit=0
)
"""No options but the MSS, no buffer that grows: a test sees nothing that it did not ask for."""


@dataclass(frozen=True)
class Segment:
    """What left the stack. `flags` in tcpdump's letters without PSH; `seq`, `ack` relative."""

    flags: str
    seq: int
    ack: int
    data: bytes = b""
    window: int = 0
    options: TcpOptions = field(default_factory=TcpOptions)
    gso_size: int = 0
    ecn: int = 0
    """The ECN field of the packet."""

    @property
    def brief(self) -> tuple[str, int, int, int]:
        """Flags, seq, ack, length of the text."""
        return self.flags, self.seq, self.ack, len(self.data)


class Peer:
    """A host at `ADDRESSES[family][0]`, talking to the only stack there is."""

    def __init__(
        self, config: StackConfig = PLAIN_CONFIG, *, family: IpFamily = IPV4, isn: int = 1000
    ) -> None:
        self.family = family
        self.config = config
        self.stack = Stack(config)
        self.now = 1000.0
        self.isn = isn
        self.iss = 0
        """The stack's initial sequence number, once seen."""
        self.ack = 0
        """Acknowledgment number of segments that do not say otherwise."""
        self.window = 65535
        self.stamp: int | None = None
        """TSval of segments that do not say otherwise; none without."""
        self.echo = 0
        self.source, self.destination = ADDRESSES[family]
        self.connection: Connection

    # --- the wire ---

    def packet(
        self,
        flags: str,
        seq: int,
        data: bytes = b"",
        *,
        ack: int | None = None,
        window: int | None = None,
        options: TcpOptions | None = None,
        raw_options: bytes | None = None,
        ports: tuple[int, int] = PORTS,
        ecn: int = 0,
    ) -> bytes:
        """An IP packet with one segment."""
        bits = sum(LETTERS[letter] for letter in flags)
        if options is None:
            options = TcpOptions(
                mss=1500 - self.family.header_length - 20 if bits & SYN else None,
                timestamp=None if self.stamp is None else (self.stamp, self.echo),
            )
        extra = build_options(options) if raw_options is None else raw_options
        acknowledged = (self.iss + (self.ack if ack is None else ack)) & 0xFFFFFFFF if bits & ACK else 0
        head = TCP.pack(
            *ports,
            (self.isn + seq) & 0xFFFFFFFF,
            acknowledged,
            (20 + len(extra)) << 10 | bits,
            self.window if window is None else window,
            0,
            0,
        )
        segment = head + extra + data
        addresses = self.source + self.destination
        total = pseudo_sum(addresses, 6, len(segment)) + ones_sum(segment)
        segment = segment[:16] + finish(total).to_bytes(2, "big") + segment[18:]
        ends = (self.source, self.destination)
        return self.family.header(*ends, 6, len(segment), traffic_class=ecn) + segment

    def send(self, flags: str, seq: int, data: bytes = b"", **fields: Any) -> list[Segment]:
        """Send one segment; returns what the stack answered at once."""
        self.stack.receive(self.packet(flags, seq, data, **fields), self.now)
        return self.answers()

    def answers(self) -> list[Segment]:
        """What the stack has sent since the last look."""
        return [self.decode(frame) for frame in self.stack.frames_to_send()]

    def decode(self, frame: bytes) -> Segment:
        """Read one frame, after checking all that a host would."""
        _, _, _, gso_size, _, _ = VNET.unpack_from(frame)
        packet = complete_checksum(frame)[VNET_HDR_LEN:]
        ip = parse_ip(packet)
        assert (ip.total_length, ip.protocol) == (len(packet), 6)
        assert (ip.source, ip.destination) == (self.destination, self.source)
        segment = packet[ip.header_length :]
        assert (pseudo_sum(ip.source + ip.destination, 6, len(segment)) + ones_sum(segment)) % 0xFFFF == 0
        sport, _, seq, ack, offset_flags, window, _, _ = TCP.unpack_from(segment)
        assert sport == PORTS[1]
        bits = offset_flags & 0xFF
        text_at = (offset_flags >> 12) * 4
        if bits & SYN:
            self.iss = seq
        return Segment(
            "".join(letter for letter, bit in LETTERS.items() if bits & bit and letter != "P"),
            (seq - self.iss + (1 << 31)) % (1 << 32) - (1 << 31),
            (ack - self.isn + (1 << 31)) % (1 << 32) - (1 << 31) if bits & ACK else 0,
            segment[text_at:],
            window,
            parse_options(segment[20:text_at]),
            gso_size,
            ip.traffic_class & 3,
        )

    def wait(self, seconds: float) -> list[Segment]:
        """Let time pass, timer by timer; returns what the stack sent."""
        end = self.now + seconds
        sent: list[Segment] = []
        while (due := self.stack.next_deadline()) is not None and due <= end + 1e-9:
            self.now = due
            self.stack.handle_timeout(due)
            after = self.stack.next_deadline()
            assert after is None or after > due, "a timer stays due"
            sent += self.answers()
        self.now = max(self.now, end)
        return sent

    def tick(self) -> list[Segment]:
        """Let the next timer expire; returns what the stack sent."""
        due = self.stack.next_deadline()
        assert due is not None, "no timer is armed"
        return self.wait(due - self.now)

    def swallow(self) -> bytes:
        """Acknowledge all that comes until nothing more does; returns the text, which must be in order."""
        text = b""
        while answers := self.answers():
            for segment in answers:
                assert segment.seq == self.ack
                text += segment.data
                self.ack += len(segment.data) + ("F" in segment.flags)
            self.stack.receive(self.packet(".", 1), self.now)
        return text

    # --- the conversation ---

    def request(self, **syn: Any) -> FlowRequest:
        """Send a SYN; returns what the stack's owner is asked."""
        assert self.send("S", 0, **syn) == []
        event = self.stack.poll_event()
        assert isinstance(event, FlowRequested)
        return event.request

    def knock(self, **syn: Any) -> Segment:
        """SYN, accepted; returns the SYN-ACK. The connection is in SYN-RECEIVED."""
        connection = self.request(**syn).accept(None, self.now)
        assert connection is not None
        self.connection = connection
        (synack,) = self.answers()
        assert synack.flags in ("S.", "S.E")
        self.ack = 1
        return synack

    def establish(self, **syn: Any) -> Connection:
        """The three-way handshake. The connection is in ESTABLISHED, and nothing is waiting anywhere."""
        self.knock(**syn)
        assert self.send(".", 1) == []
        assert self.events() == ["established"]
        return self.connection

    def open(self, **answer: Any) -> Segment:
        """Have the stack connect to us; returns its SYN. The connection is in SYN-SENT."""
        self.connection = self.stack.connect(self.destination, PORTS[1], self.source, PORTS[0], self.now)
        (syn,) = self.answers()
        assert syn.flags == "S"
        self.ack = 1
        return syn

    def take(self, data: bytes) -> list[Segment]:
        """Have the stack's owner send `data`; returns what left."""
        assert self.connection.send(data, self.now) == len(data)
        return self.answers()

    def read(self, most: int = 1 << 30) -> bytes:
        return self.connection.read(most, self.now)

    def events(self) -> list[str]:
        """What the owner was told since the last look, in a word each."""
        told = []
        while (event := self.stack.poll_event()) is not None:
            told.append(_word(event))
        return told

    @property
    def state(self) -> str:
        return self.connection.state.value


def _word(event: Event) -> str:
    match event:
        case Established():
            return "established"
        case Readable():
            return "readable"
        case Writable():
            return "writable"
        case PeerClosed():
            return "fin"
        case Closed(error=error):
            return f"closed {error}"
        case FlowRequested():
            return "request"
        case Incoming():
            return "incoming"
    return type(event).__name__.lower()


def peer(**settings: Any) -> Peer:
    """A peer of a stack with PLAIN_CONFIG but for `settings`."""
    family = settings.pop("family", IPV4)
    isn = settings.pop("isn", 1000)
    return Peer(replace(PLAIN_CONFIG, **settings), family=family, isn=isn)
