"""A machine's network as the plain programs tell it, and plans made real by what they print."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from tests.netns.topology import Namespace
from tunsmith.route.change import Change
from tunsmith.route.facts import DEFAULT, LOCAL, MAIN, Link, LinkAddress, Route, Rule, Snapshot
from tunsmith.route.plan import settings

_TABLES = {"main": MAIN, "local": LOCAL, "default": DEFAULT}
_PROTOCOLS = {"kernel": 2, "boot": 3, "static": 4, "ra": 9, "dhcp": 16}
_SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_IP_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}


def make(namespace: Namespace, change: Change) -> None:
    """`change` as a person would make it."""
    for command in change.commands():
        namespace.run("sh", "-c", command)


def take_snapshot(namespace: Namespace) -> Snapshot:
    links = [
        Link(
            each["ifname"],
            each["ifindex"],
            each.get("linkinfo", {}).get("info_kind", ""),
            "UP" in each["flags"],
            each["mtu"],
            "LOOPBACK" in each["flags"],
            each.get("master", ""),
        )
        for each in _json(namespace, "-d", "link", "show")
    ]
    addresses = [
        LinkAddress(
            each["ifname"], ip_interface(f"{info['local']}/{info['prefixlen']}"), None, _SCOPES[info["scope"]]
        )
        for each in _json(namespace, "address", "show")
        for info in each["addr_info"]
        if "local" in info
    ]
    routes = [
        _route(version, each)
        for version in (4, 6)
        for each in _json(namespace, f"-{version}", "-d", "route", "show", "table", "all")
    ]
    rules = [
        _rule(version, each) for version in (4, 6) for each in _json(namespace, f"-{version}", "-d", "rule")
    ]
    return Snapshot(
        tuple(links),
        tuple(addresses),
        tuple(routes),
        tuple(rules),
        _settings(namespace, settings(link.name for link in links)),
    )


def _settings(namespace: Namespace, paths: list[str]) -> dict[str, str]:
    listing = "".join(f'[ -e {path} ] && echo "{path} $(cat {path})"\n' for path in paths)
    lines = namespace.run("sh", "-c", f"cd /proc/sys\n{listing}true").splitlines()
    return {path: value for path, _, value in (line.partition(" ") for line in lines)}


def _json(namespace: Namespace, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(namespace.run("ip", "-j", *words) or "[]")
    return found


def _number(names: dict[str, int], value: str | int) -> int:
    return names[value] if isinstance(value, str) and value in names else int(value)


def _route(version: int, told: dict[str, Any]) -> Route:
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    return Route(
        ip_network(everything if told["dst"] == "default" else told["dst"]),
        told.get("dev", ""),
        ip_address(told["gateway"]) if "gateway" in told else None,
        _number(_TABLES, told.get("table", "main")),
        told.get("metric", 0),
        told.get("type", "unicast"),
        _number(_PROTOCOLS, told.get("protocol", "boot")),
        _number(_SCOPES, told.get("scope", "global")),
        ip_address(told["prefsrc"]) if "prefsrc" in told else None,
        "onlink" in told["flags"],
    )


def _rule(version: int, told: dict[str, Any]) -> Rule:
    mark = int(told.get("fwmark", "0"), 16)
    source, destination = told.get("src", "all"), told.get("dst", "")
    return Rule(
        version,
        told["priority"],
        _number(_TABLES, told.get("table", 0)),
        "goto" if "goto" in told else told.get("action", "lookup"),
        "not" in told,
        mark,
        int(told["fwmask"], 16) if "fwmask" in told else 0xFFFFFFFF if mark else 0,
        told.get("iif", ""),
        told.get("oif", ""),
        None
        if source == "all"
        else ip_network(f"{source}/{told.get('srclen', 32 if version == 4 else 128)}"),
        ip_network(f"{destination}/{told.get('dstlen', 32 if version == 4 else 128)}")
        if destination
        else None,
        _number(_IP_PROTOCOLS, told.get("ipproto", 0)),
        _ports(told, "dport"),
        _ports(told, "sport"),
        told.get("suppress_prefixlen", -1),
        int(told.get("goto", 0)),
        _number(_PROTOCOLS, told.get("protocol", 0)),
    )


def _ports(told: dict[str, Any], word: str) -> tuple[int, int]:
    if f"{word}_start" in told:
        return told[f"{word}_start"], told[f"{word}_end"]
    port = told.get(word, 0)
    return port, port
