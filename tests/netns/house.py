"""C as the router of a house: a LAN behind it, and a container whose packets it masquerades as Docker does.

     L  a host of the LAN            C  (topology.py)                 B  a container
    +--------------------+     +---------------------------+     +-----------------------+
    | l0 10.81.5.2 ------|-----| lan0 10.81.5.1            |     |                       |
    |    fd81:5::2       |     |      fd81:5::1            |     |                       |
    +--------------------+     | docker0 172.17.0.1 -------|-----| b0 172.17.0.2         |
                               |         fd81:17::1        |     |    fd81:17::2         |
                               | c0: to the server, by R   |     | port 80, published as |
                               | port 22                   |     | 8080 of C             |
                               +---------------------------+     +-----------------------+

S knows the way back to the LAN and the container's IPv6 network; the container's IPv4 packets bear C's address when
they leave by c0. Reverse path filters can be strict on all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.netns.caller import ROOT
from tests.netns.leaks import network
from tests.netns.topology import CALLER, Namespace, Topology

SSH, PUBLISHED, WEB = 22, 8080, 80
_CONTAINERS = f"""
table ip docker {{
  chain out {{
    type nat hook postrouting priority srcnat
    ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
  }}
  chain in {{
    type nat hook prerouting priority dstnat
    fib daddr type local tcp dport {PUBLISHED} dnat to 172.17.0.2:{WEB}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    oifname {{ "docker0", "br-1" }} ct state established,related accept
    iifname != "docker0" oifname "docker0" tcp dport {WEB} accept
    iifname {{ "docker0", "br-1", "lan0" }} accept
    oifname "lan0" ct state established,related accept
  }}
}}
"""
_SHOW_SYSCTLS = ["grep", "-rs", "", "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"]


@dataclass(frozen=True)
class Guest:
    """Somebody behind C. `addresses` are its own, by version."""

    name: str
    namespace: Namespace
    addresses: dict[int, str]

    def client(self, *argv: object) -> Any:
        """What client.py prints there."""
        shown = self.namespace.run(
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-S", "-m", "tests.netns.client", *map(str, argv)
        )
        return json.loads(shown)

    def pings(self, host: str) -> bool:
        argv = self.namespace.command(["ping", "-c1", "-W2", host])
        return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0

    def look_up(self, name: str, server: str) -> str:
        return self.namespace.run("dig", "+short", "+tries=1", "+time=2", name, f"@{server}").strip()


class House:
    """L and B, joined to C; `forwards`: C does so already, `strict`: packets must come by the way theirs would go."""

    def __init__(self, topology: Topology, *, forwards: bool, strict: bool) -> None:
        self._topology = topology
        self.host = topology.caller
        self.lan = Guest("lan", Namespace(), {4: "10.81.5.2", 6: "fd81:5::2"})
        self.container = Guest("container", Namespace(), {4: "172.17.0.2", 6: "fd81:17::2"})
        self._join_lan()
        self._join_container()
        _ip(topology.router, f"route add 10.81.5.0/24 via {CALLER[4]}")
        for prefix in ("fd81:5::/64", "fd81:17::/64"):
            _ip(topology.router, f"-6 route add {prefix} via {CALLER[6]}")
        self.host.run("nft", "-f", "-", stdin=_CONTAINERS)
        if forwards:
            self._switch("1")
        for name in ("all", "c0", "lan0", "docker0"):
            self.host.tune({f"net/ipv4/conf/{name}/rp_filter": "1" if strict else "0"})

    def _switch(self, value: str) -> None:
        self.host.tune({"net/ipv4/ip_forward": value, "net/ipv6/conf/all/forwarding": value})

    def _join_lan(self) -> None:
        lan = self.lan.namespace
        _ip(self.host, f"link add lan0 type veth peer name l0 netns {lan.path}")
        _give(self.host, "lan0", "10.81.5.1/24", "fd81:5::1/64")
        _give(lan, "l0", "10.81.5.2/24", "fd81:5::2/64")
        _ip(lan, "route add default via 10.81.5.1", "-6 route add default via fd81:5::1")

    def _join_container(self) -> None:
        container = self.container.namespace
        self._bridge("docker0", "vb0", container)
        _give(self.host, "docker0", "172.17.0.1/16", "fd81:17::1/64")
        _give(container, "b0", "172.17.0.2/16", "fd81:17::2/64")
        _ip(container, "route add default via 172.17.0.1", "-6 route add default via fd81:17::1")

    def _bridge(self, name: str, port: str, container: Namespace) -> None:
        _ip(
            self.host,
            f"link add {name} type bridge",
            f"link add {port} type veth peer name b0 netns {container.path}",
            f"link set {port} master {name}",
            f"link set {port} up",
        )

    @contextmanager
    def network(self) -> Iterator[Guest]:
        """A network of containers as `docker network create` makes it, and one in it."""
        found = Guest("another container", Namespace(), {4: "172.18.0.2"})
        self._bridge("br-1", "vb1", found.namespace)
        _give(self.host, "br-1", "172.18.0.1/16")
        _give(found.namespace, "b0", "172.18.0.2/16")
        _ip(found.namespace, "route add default via 172.18.0.1")
        yield found
        _ip(self.host, "link del vb1", "link del br-1")
        found.namespace.close()

    def state(self) -> list[str]:
        """What C must be like again: its network, and every switch of its interfaces."""
        shown = subprocess.run(
            self.host.command(_SHOW_SYSCTLS), capture_output=True, text=True, timeout=20, check=False
        )
        return [*network(self.host), *sorted(shown.stdout.splitlines())]

    def close(self) -> None:
        self._switch("0")
        self.host.tune({f"net/ipv4/conf/{name}/rp_filter": "0" for name in ("all", "c0")})
        self.host.run("nft", "delete", "table", "ip", "docker")
        _ip(self.host, "link del lan0", "link del vb0", "link del docker0")
        _ip(self._topology.router, "route del 10.81.5.0/24")
        for prefix in ("fd81:5::/64", "fd81:17::/64"):
            _ip(self._topology.router, f"-6 route del {prefix}")
        self.lan.namespace.close()
        self.container.namespace.close()


def _give(namespace: Namespace, link: str, *addresses: str) -> None:
    _ip(namespace, "link set lo up")
    for address in addresses:
        _ip(namespace, f"address add {address} dev {link}" + (" nodad" if ":" in address else ""))
    _ip(namespace, f"link set {link} up")


def _ip(namespace: Namespace, *lines: str) -> None:
    for line in lines:
        namespace.run("ip", *line.split())
