"""`--publish [ADDR:]PORT:PORT[/tcp|/udp]`, as text."""

from __future__ import annotations

import re
from ipaddress import ip_address

from tunsmith.config import Publish
from tunsmith.errors import UsageError

_FORM = re.compile(
    r"(?:(?P<address>\[[^]]*\]|[^:\[\]]*):)?(?P<outer>\d{1,5}):(?P<inner>\d{1,5})(?:/(?P<protocol>\w+))?",
    re.ASCII,
)
EVERY_ADDRESS = ""


def parse_publish(text: str) -> Publish:
    """Read one `--publish`; without ADDR on every IPv4 and IPv6 address, without protocol both. Raises UsageError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"--publish {text}: not of the form [ADDR:]PORT:PORT[/tcp|/udp]")
    protocol = match["protocol"]
    if protocol not in (None, "tcp", "udp"):
        raise UsageError(f"--publish {text}: protocol {protocol} is neither tcp nor udp")
    return Publish(
        address=_address(text, match["address"]),
        outer_port=_port(text, match["outer"]),
        inner_port=_port(text, match["inner"]),
        protocols=(protocol,) if protocol else ("tcp", "udp"),
    )


def parse_all(texts: tuple[str, ...]) -> tuple[Publish, ...]:
    """Read every `--publish`; no outer port may be given twice. Raises UsageError."""
    published = tuple(parse_publish(text) for text in texts)
    taken: set[tuple[str, int, str]] = set()
    for text, entry in zip(texts, published, strict=True):
        for protocol in entry.protocols:
            place = (entry.address, entry.outer_port, protocol)
            if place in taken:
                raise UsageError(f"--publish {text}: {protocol} port {entry.outer_port} is published already")
            taken.add(place)
    return published


def _address(text: str, written: str | None) -> str:
    if not written:
        return EVERY_ADDRESS
    try:
        return str(ip_address(written.strip("[]")))
    except ValueError:
        raise UsageError(f"--publish {text}: {written} is not an IP address") from None


def _port(text: str, digits: str) -> int:
    port = int(digits)
    if not 0 < port < 65536:
        raise UsageError(f"--publish {text}: {digits} is not a port (1 to 65535)")
    return port
