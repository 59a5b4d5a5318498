"""Three machines out of one, with real Linux on the other side.

     C  the caller's machine          R  router                    S  server
    +----------------------+     +--------------------+     +---------------------+
    | lo                   |     |                    |     |                     |
    | c0 10.81.1.2 --------|-----| rc0 10.81.1.1      |     |                     |
    |    fd81:1::2         |     |     fd81:1::1      |     |                     |
    |                      |     |     10.81.2.1  rs0 |-----| s0 10.81.2.2        |
    |                      |     |     fd81:2::1      |     |    fd81:2::2        |
    | c1 10.81.3.2 --------|-----| rc1 10.81.3.1      |     | real programs:      |
    |    fd81:3::2         |     |     fd81:3::1      |     |   servers.py        |
    | tunsmith run -- CMD  |     | nft drops FILTERED |     | odd ones: peers.py  |
    +----------------------+     +--------------------+     +---------------------+

C's default route leaves by c0; c1 is a second way for `--interface`. Beyond S there are addresses that R
answers for: `NO_HOST`, `NO_NETWORK`, `PROHIBITED`, and `BLACK_HOLE`, for which nobody answers.

The namespaces have no name: they are held by a descriptor of this process and by what runs in them, so
nothing can be left behind. Addresses are private and exist only in here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

CALLER = {4: "10.81.1.2", 6: "fd81:1::2"}
CALLER_SECOND = {4: "10.81.3.2", 6: "fd81:3::2"}
ROUTER = {4: "10.81.1.1", 6: "fd81:1::1"}
SERVER = {4: "10.81.2.2", 6: "fd81:2::2"}
NO_HOST = {4: "10.81.9.1", 6: "fd81:9::1"}
"""R: host unreachable."""
NO_NETWORK = {4: "10.82.0.1", 6: "fd82::1"}
"""R has no route: network unreachable."""
PROHIBITED = {4: "10.81.9.2", 6: "fd81:9::2"}
"""R: administratively prohibited."""
BLACK_HOLE = {4: "10.81.9.3", 6: "fd81:9::3"}
"""R says nothing."""
FILTERED = 9999
"""The port R drops, TCP and UDP."""

_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # Addresses are usable at once.
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/ping_group_range": "0 2147483647",
    # A test may provoke one refusal after another to one destination.
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
}
_CALLER_SYSCTLS = {"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"}


class Namespace:
    """A network namespace, alive as long as this object or something in it is."""

    def __init__(self) -> None:
        with subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read end"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as maker:  # fmt: skip
            assert maker.stdin is not None
            assert maker.stdout is not None
            maker.stdout.read(1)
            self._fd = os.open(f"/proc/{maker.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            maker.stdin.close()
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    @property
    def identity(self) -> str:
        """As /proc/PID/ns/net shows it."""
        return os.readlink(self.path)

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it must be run, by root, to happen in here."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """The standard output of a program; it must succeed."""
        done = subprocess.run(
            self.command(argv), input=stdin, capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def tune(self, sysctls: dict[str, str]) -> None:
        self.run("sh", "-c", "\n".join(f"echo {value} > /proc/sys/{key}" for key, value in sysctls.items()))

    def listens(self, port: int, protocol: str = "tcp") -> bool:
        """Whether a socket of any family is bound to `port`, listening where it is TCP."""
        return bool(self.run("ss", "-Hln", f"--{protocol}", f"sport = :{port}").strip())

    def close(self) -> None:
        os.close(self._fd)


class Topology:
    """C, R and S, joined. `files` is a directory every user may read and write."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.caller, self.router, self.server = Namespace(), Namespace(), Namespace()
        for namespace in (self.caller, self.router, self.server):
            namespace.tune(_SYSCTLS)
        self.caller.tune(_CALLER_SYSCTLS)
        self._join("c0", self.caller, "rc0", 1)
        self._join("c1", self.caller, "rc1", 3)
        self._join("s0", self.server, "rs0", 2)
        self._route()

    def _join(self, link: str, end: Namespace, router_link: str, subnet: int) -> None:
        self._ip(self.router, f"link add {router_link} type veth peer name {link} netns {end.path}")
        for namespace, name, host in ((self.router, router_link, 1), (end, link, 2)):
            self._ip(
                namespace,
                "link set lo up",
                f"address add 10.81.{subnet}.{host}/24 dev {name}",
                f"address add fd81:{subnet}::{host}/64 dev {name} nodad",
                f"link set {name} up",
            )

    def _route(self) -> None:
        self._ip(
            self.caller,
            f"route add default via {ROUTER[4]} dev c0 metric 10",
            f"-6 route add default via {ROUTER[6]} dev c0 metric 10",
            "route add default via 10.81.3.1 dev c1 metric 900",
            "-6 route add default via fd81:3::1 dev c1 metric 9000",
        )
        self._ip(self.server, "route add default via 10.81.2.1", "-6 route add default via fd81:2::1")
        self._ip(
            self.router,
            f"route add unreachable {NO_HOST[4]}",
            # The same for IPv6 would say "no route".
            f"-6 route add {NO_HOST[6]} via {SERVER[6]}",
            *(f"route add prohibit {address}" for address in PROHIBITED.values()),
            *(f"route add blackhole {address}" for address in BLACK_HOLE.values()),
        )
        self.router.run("nft", "add table inet filter")
        self.router.run("nft", "add chain inet filter forward { type filter hook forward priority 0; }")
        self.router.run(
            "nft",
            f"add rule inet filter forward ip6 daddr {NO_HOST[6]} reject with icmpv6 type addr-unreachable",
        )
        self.router.run(
            "nft",
            f"add rule inet filter forward oifname rs0 meta l4proto {{ tcp, udp }} th dport {FILTERED} drop",
        )

    @staticmethod
    def _ip(namespace: Namespace, *lines: str) -> None:
        for line in lines:
            namespace.run("ip", *line.split())

    def close(self) -> None:
        for namespace in (self.caller, self.router, self.server):
            namespace.close()
