"""Settings: plain frozen values, checked where they enter (the command line), trusted below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


@dataclass(frozen=True, slots=True)
class Network:
    """The private network between the application and the stack.

    `inside*` are the addresses of the TUN interface, `gateway*` those tunsmith itself answers on
    (DNS), `fake*` the pools names are mapped to. 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180)
    are reserved for benchmarks: no real host is hidden by them, and browsers do not treat them as a LAN."""

    inside: IPv4Address = IPv4Address("198.18.0.1")
    gateway: IPv4Address = IPv4Address("198.18.0.2")
    inside6: IPv6Address = IPv6Address("2001:2::1")
    gateway6: IPv6Address = IPv6Address("2001:2::2")
    fake: IPv4Network = IPv4Network("198.18.0.0/15")
    fake6: IPv6Network = IPv6Network("2001:2::/48")
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Publish:
    """`--publish [ADDR:]PORT:PORT[/tcp|/udp]`: `outer_port` on `address` leads to `inner_port` inside.
    An empty `address` is every IPv4 and IPv6 address of this machine."""

    address: str
    outer_port: int
    inner_port: int
    protocols: tuple[str, ...] = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine; times in seconds, sizes in bytes."""

    flows: int = 16384
    receive_buffer: int = 1 << 20
    send_buffer: int = 1 << 21
    tcp_idle: float = 7200.0
    dns_idle: float = 30.0
    """Of a stream of queries; RFC 7766 §6.2.3 asks for seconds, not minutes."""
    udp_one_shot: float = 30.0
    udp_two_way: float = 120.0
    udp_quic: float = 180.0
    dial: float = 150.0
    """A little more than the kernel gives a connect (127 s with its six retries): directly, its word counts."""
    stop: float = 1.5
    """For what a program that has ended said last."""
    drain: float = 60.0
    """The same, where it goes on moving and nobody is left inside."""
    stall: float = 5.0
    """Without a byte moving, in that time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an engine needs to know that is not an object of its own."""

    network: Network = field(default_factory=Network)
    limits: Limits = field(default_factory=Limits)
    resolvers: tuple[str, ...] = ()
    """Addresses of the caller's own resolvers, in order; DNS goes to them where the upstream is direct."""
    publish: tuple[Publish, ...] = ()
