"""Types of options that commands share. Each looks at its value where it stands, so that a configuration file can
name every fault with its line, and returns the text as it is. All raise UsageError."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from tunsmith.errors import UsageError


def upstream(text: str) -> str:
    """An upstream URL."""
    from tunsmith.dial.url import parse_upstream

    parse_upstream(text)
    return text


def publish(text: str) -> str:
    """A port to publish."""
    from tunsmith.cli.publish import parse_publish

    parse_publish(text)
    return text


def prefix(text: str) -> str:
    """A network, or one address."""
    parse_prefix(text)
    return text


def parse_prefix(text: str) -> IPv4Network | IPv6Network:
    """`text` as a network: 10.0.0.0/8, 2001:db8::/32, or an address alone."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"{text!r} is no network, like 10.0.0.0/8 or 2001:db8::/32") from None
    raise UsageError(f"{text!r} has bits set behind its prefix; did you mean {meant}?")
