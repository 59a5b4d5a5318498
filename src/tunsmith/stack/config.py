"""What a stack is built with. Defaults follow Linux and the RFCs named beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunsmith.stack.tcp.algorithms import ALGORITHMS, Factory

if TYPE_CHECKING:
    from tunsmith.stack.tcp.policy import Options

SEND_BUFFER = 1 << 20
"""Bytes; enough for 80 Mbit/s over 100 ms."""


@dataclass(frozen=True, slots=True)
class StackConfig:
    """Constructor arguments of a Stack; times in seconds, sizes in bytes."""

    mtu: int = 1500
    offload: bool = True
    """The device takes super-segments and partial checksums. False: every packet leaves complete and
    no longer than `mtu`."""
    isn_secret: bytes = b"tunsmith"
    """Key of the initial sequence numbers (RFC 6528). Random in production, fixed in tests."""
    isn: Callable[[bytes, float], int] | None = None
    """Another source of initial sequence numbers: called with the key of the flow and the time."""
    random: Callable[[int], bytes] | None = None
    """Source of randomness: called with a number of bytes. None: derived from `isn_secret`."""
    any_destination: bool = True
    """Accept packets to any address and answer from it; else only to `addresses`."""
    addresses: tuple[bytes, ...] = ()
    syn_cookies: bool = True
    """Answer SYNs by cookies when a listener has no place for them, RFC 4987 §3.6. False: by silence."""
    flow_requests: bool = True
    """TCP flows that no listener takes are offered to `StackHandler.on_flow`. False: they are refused."""
    ephemeral_ports: tuple[int, int] = (32768, 60999)
    """First and last of the ports that `connect` and `listen` choose from, RFC 6056 §3.2."""
    timestamps: bool = True
    sack: bool = True
    ecn: str = "accept"
    """Explicit congestion notification, RFC 3168: `off`, `accept` it where the peer asks, or `request` it."""
    dsack: bool = True
    """Tell the peer what came twice, RFC 2883."""
    window_scaling: bool = True
    receive_buffer: int = 1 << 20
    """What a connection begins with; it grows while its owner reads faster than that allows (tcp/tuning.py)."""
    receive_buffer_limit: int | None = None
    """How far it may grow. None: to four times `receive_buffer`; no more than that: not at all."""
    receive_memory: int = 256 << 20
    """By how much all receive buffers together may outgrow what they begin with."""
    send_buffer: int | None = None
    """What a connection keeps until it is acknowledged. None: SEND_BUFFER to begin with; it grows while the path could
    take more (tcp/tuning.py)."""
    send_buffer_limit: int = 4 << 20
    """How far it may grow."""
    send_memory: int = 256 << 20
    """By how much all send buffers together may outgrow SEND_BUFFER."""
    initial_window: int = 10
    """Segments, RFC 6928."""
    congestion: str | Factory = "cubic"
    """`cubic` (RFC 9438), `reno` (RFC 5681), or what makes an algorithm of your own: called with MSS and initial
    window in bytes, once a connection. See tcp/congestion.py."""
    restart_after_idle: bool = True
    """Begin with the initial window again after an RTO without sending, RFC 5681 §4.1."""
    rack: bool = True
    """Losses detected by time (RFC 8985) where the peer has SACK; else by counting (RFC 6675)."""
    tlp: bool = True
    """Tail loss probes, RFC 8985 §7, where the peer has SACK."""
    initial_rto: float = 1.0
    min_rto: float = 0.2
    """RFC 6298 (2.4) says 1 s; every stack in use says 200 ms: docs/adr/0004."""
    max_rto: float = 120.0
    delayed_ack: float = 0.04
    """RFC 9293 §3.8.6.3 allows 500 ms; Linux waits 40."""
    retries: int = 15
    """Retransmissions of one segment before the connection times out (Linux tcp_retries2)."""
    synack_retries: int = 5
    syn_retries: int = 6
    time_wait: float = 60.0
    time_wait_limit: int = 8192
    """TIME-WAIT records kept; the oldest goes first."""
    fin_wait_2: float = 60.0
    """How long a connection that its owner closed waits for the peer's FIN."""
    pending_limit: int = 4096
    """Flow requests not yet answered, in all."""
    pending_per_source: int = 1024
    """Flow requests not yet answered, and connections opening at one listener, from one source address."""
    connection_limit: int = 65536
    challenge_ack_rate: float = 100.0
    """Challenge ACKs a second, RFC 5961 §7; or up to a quarter more, chosen anew each second."""
    refusal_rate: float = 1000.0
    """ACKs a second that answer empty segments outside a window: keepalives, mostly."""
    zero_checksum_ports: frozenset[int] = frozenset()
    """UDP ports where IPv6 datagrams may come without a checksum: tunnels, RFC 6935 §5."""
    icmp_rate: float = 1000.0
    icmp_burst: float = 50.0
    """ICMP errors a second and at once, RFC 1812 §4.3.2.8, RFC 4443 §2.4 f."""
    no_delay: bool = True
    """False: Nagle's algorithm (RFC 9293 §3.7.4) for connections that do not say otherwise."""
    options: Options | None = None
    """Options of all connections that come without their own."""
    path_mtu_discovery: bool = True
    """Learn the MTU of paths from ICMP (RFC 1191, RFC 8201) and from silence (RFC 4821). False: routers may cut
    what we send over IPv4, and over IPv6 nothing is longer than they must carry."""

    def __post_init__(self) -> None:
        """Raises ValueError that names everything that cannot be."""
        wrong = [
            f"{name} is {value!r}, not between {low} and {high}"
            for name, (low, high) in _BOUNDS.items()
            if (value := getattr(self, name)) is not None and not low <= value <= high
        ]
        if not 1 <= len(self.isn_secret) <= 64:
            wrong.append(f"isn_secret has {len(self.isn_secret)} bytes, not 1 to 64")
        if self.max_rto < max(self.min_rto, self.initial_rto):
            wrong.append(f"max_rto is {self.max_rto}, less than min_rto or initial_rto")
        first, last = self.ephemeral_ports
        if not 1 <= first <= last <= 65535:
            wrong.append(f"ephemeral_ports is {self.ephemeral_ports}, not a range of ports")
        wrong += [
            f"{address!r} in addresses is no packed address"
            for address in self.addresses
            if type(address) is not bytes or len(address) not in (4, 16)
        ]
        if self.ecn not in ECN:
            wrong.append(f"ecn is {self.ecn!r}, not one of {', '.join(ECN)}")
        if isinstance(self.congestion, str) and self.congestion not in ALGORITHMS:
            wrong.append(f"congestion is {self.congestion!r}, not one of {', '.join(ALGORITHMS)}")
        if wrong:
            raise ValueError("; ".join(wrong))


ECN = ("off", "accept", "request")

_BOUNDS: dict[str, tuple[float, float]] = {
    "mtu": (68, 65535),  # RFC 791 §3.2
    "receive_buffer": (1, 1 << 30),  # what a window of 16 bits and a scale of 14 can tell
    "send_buffer": (1, 1 << 30),
    "send_buffer_limit": (0, 1 << 30),
    "receive_memory": (0, 1 << 62),
    "send_memory": (0, 1 << 62),
    "initial_window": (1, 1000),
    "initial_rto": (0.001, 3600.0),
    "min_rto": (0.001, 3600.0),
    "max_rto": (0.001, 3600.0),
    "delayed_ack": (0.0, 0.5),  # RFC 9293 §3.8.6.3
    "retries": (0, 1000),
    "synack_retries": (0, 1000),
    "syn_retries": (0, 1000),
    "time_wait": (0.0, 3600.0),
    "time_wait_limit": (1, 1 << 24),
    "fin_wait_2": (0.0, 86400.0),
    "pending_limit": (0, 1 << 24),
    "pending_per_source": (0, 1 << 24),
    "connection_limit": (0, 1 << 24),
    "challenge_ack_rate": (0.0, 1e9),
    "refusal_rate": (0.0, 1e9),
    "icmp_rate": (0.0, 1e9),
    "icmp_burst": (0.0, 1e9),
}
