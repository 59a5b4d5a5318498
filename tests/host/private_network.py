"""A network of its own for one test, seen with iproute2's eyes."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CLONE_NEWNET = 0x40000000

SET_UP = """\
link set lo up
link add uplink type veth peer name router
link set uplink up
link set router up
address add 10.9.0.2/24 dev uplink
address add fd09::2/64 dev uplink nodad
route add default via 10.9.0.1 dev uplink
route add default via fd09::1 dev uplink
"""


class Network:
    """The network this process is in, for as long as the test runs."""

    def ip(self, commands: str) -> None:
        """Run ip(8), one command a line."""
        done = subprocess.run(
            ["ip", "-batch", "-"], input=commands, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def json(self, *words: str) -> list[dict[str, Any]]:
        """What `ip -json` says."""
        shown = subprocess.run(["ip", "-json", *words], capture_output=True, text=True, check=True).stdout
        return json.loads(shown) if shown.strip() else []

    def wait_for_carrier(self) -> None:
        """Wait until the uplink is up and its addresses are local: the kernel does both a moment after it was told."""
        deadline = time.monotonic() + 5
        while not self._is_settled():
            assert time.monotonic() < deadline

    def _is_settled(self) -> bool:
        local = {
            route["dst"] for route in self.json("-6", "route", "show", "table", "local", "type", "local")
        }
        links = self.json("link", "show", "type", "veth")
        return "fd09::2" in local and all(link["operstate"] == "UP" for link in links)

    def everything(self) -> str:
        """Links, addresses, routes of all tables, rules, nftables, sysctls of interfaces."""
        script = (
            "ip -oneline link; ip -oneline address; ip route show table all; ip -6 route show table all; ip rule;"
            "ip -6 rule; nft list ruleset; cd /proc/sys/net; head -v ipv4/conf/*/rp_filter ipv4/conf/*/src_valid_mark"
        )
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


@contextmanager
def private_network() -> Iterator[Network]:
    """This thread in a network namespace of its own, which has an uplink and default routes of both families."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            network = Network()
            with open("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "w", encoding="ascii") as file:
                file.write("1")  # no link-local addresses, which come when they like
            network.ip(SET_UP)
            network.wait_for_carrier()
            yield network
        finally:
            if libc.setns(home, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)
