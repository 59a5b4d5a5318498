"""Routes, shortly."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tunsmith.route.facts import KERNEL, MAIN, Route


def route(prefix: str, device: str = "", gateway: str = "", table: int = MAIN, **more: object) -> Route:
    via = ip_address(gateway) if gateway else None
    return Route(ip_network(prefix), device, via, table, **{"protocol": 3, **more})  # type: ignore[arg-type]


def connected(prefix: str, device: str) -> Route:
    """As the kernel makes it of an address."""
    four = ip_network(prefix).version == 4
    return route(prefix, device, protocol=KERNEL, scope=253 if four else 0, metric=0 if four else 256)
