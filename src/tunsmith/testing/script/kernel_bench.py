"""Where packet scripts meet Linux, as the oracle: a namespace with a TUN, at which the peer of every script sits.

    with KernelBench() as bench:
        bench.run(script, IPV4)

Wants root in a network namespace of its own: it sets addresses, routes and the switches of TCP. Each script
gets a peer and a port of its own, so that what the kernel remembers of an earlier one does not matter.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.testing.script.kernel_host import KernelHost
from tunsmith.testing.script.parser import ScriptError
from tunsmith.testing.script.runner import Runner
from tunsmith.testing.script.statements import Script
from tunsmith.testing.script.wire import ADDRESSES, Wire
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

MTU = 1500
PEER_ISN = 1000
PEERS = {4: bytes((198, 18, 0, 0)), 6: bytes.fromhex("20010db80001") + bytes(10)}
"""Where the peers are; the last two bytes are theirs."""
SETTINGS = {
    "sack": "tcp_sack",
    "timestamps": "tcp_timestamps",
    "window_scaling": "tcp_window_scaling",
    "retries": "tcp_retries2",
    "syn_retries": "tcp_syn_retries",
    "synack_retries": "tcp_synack_retries",
    "congestion": "tcp_congestion_control",
    "ecn": "tcp_ecn",
    "rack": "tcp_recovery",
    "tlp": "tcp_early_retrans",
    "dsack": "tcp_dsack",
    "restart_after_idle": "tcp_slow_start_after_idle",
}
"""Settings of ours and the switch that is the same."""
SWITCHES = {
    "tcp_sack": "off",
    "tcp_timestamps": "off",
    "tcp_window_scaling": "off",
    "tcp_retries2": "15",
    "tcp_syn_retries": "6",
    "tcp_synack_retries": "5",
    "tcp_congestion_control": "reno",
    "tcp_ecn": "accept",
    "tcp_recovery": "on",
    "tcp_early_retrans": "on",
    "tcp_dsack": "on",
    "tcp_invalid_ratelimit": "0",
    "tcp_no_metrics_save": "1",
    "tcp_slow_start_after_idle": "on",
    "icmp_ratelimit": "0",
    "icmp_msgs_per_sec": "100000",
}
"""How a script finds them if it says nothing."""
WORDS = {"on": "1", "off": "0", "request": "1", "accept": "2"}
TAIL_LOSS_PROBES = "3"
"""What is "on" for tcp_early_retrans: 1 is none of it, 3 and 4 are."""


class KernelBench:
    """This network namespace and its TUN. A context manager."""

    def __init__(self) -> None:
        for name in ("disable_ipv6", "accept_dad"):
            Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text("0")
        self.device = open_tun("tun%d", mtu=MTU, vnet_header=False)
        index = socket.if_nametoindex(self.device.name)
        Path(f"/proc/sys/net/ipv6/conf/{self.device.name}/router_solicitations").write_text("0")
        with RtNetlink() as netlink:
            netlink.link_up(index, MTU)
            for family, number in ((IPV4, socket.AF_INET), (IPV6, socket.AF_INET6)):
                netlink.address_add(index, ip_address(ADDRESSES[family.version][1]))
                netlink.default_route_add(index, number)
        self._runs = 0

    def __enter__(self) -> KernelBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.device.close()

    def run(self, script: Script, family: IpFamily) -> None:
        """Run `script`. Raises ScriptFailure, ScriptError."""
        host = self.host(script, family)
        try:
            Runner(script, host).run()
        finally:
            host.close()

    def host(self, script: Script, family: IpFamily) -> KernelHost:
        """The kernel as `script` wants it. Raises ScriptError for a setting without a switch."""
        switches = dict(SWITCHES)
        no_delay = True
        for name, word in script.settings.items():
            if name == "no_delay":
                no_delay = word == "on"
            elif name in SETTINGS:
                switches[SETTINGS[name]] = word
            else:
                raise ScriptError(f"{script.file}: Linux has no switch for {name}")
        for name, value in switches.items():
            with suppress(OSError):
                on = TAIL_LOSS_PROBES if name == "tcp_early_retrans" else WORDS["on"]
                Path(f"/proc/sys/net/ipv4/{name}").write_text(
                    on if value == "on" else WORDS.get(value, value)
                )
        self._runs += 1
        wire = Wire(family, PEER_ISN, MTU, (40000, 1000 + self._runs))
        wire.peer = PEERS[family.version][:-2] + self._runs.to_bytes(2, "big")
        return KernelHost(self.device, wire, no_delay)
