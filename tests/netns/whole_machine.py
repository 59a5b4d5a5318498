"""A machine with a history, made out of namespaces of this process's own, and all that has to be as it was."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from tests.host.private_network import SET_UP, Network
from tunsmith.host.syscalls import MS_PRIVATE, MS_REC, mount

_LINKS = """\
address add 10.9.0.7/24 dev uplink
link add lan type veth peer name lanbox
link set lan up
link set lanbox up
address add 192.168.7.1/24 dev lan
address add fd07::1/64 dev lan nodad
route add 203.0.113.0/24 via 192.168.7.9 dev lan metric 77
route add unreachable 198.51.100.0/24 table 77
rule add fwmark 0x100/0xff00 lookup 77 priority 1000
"""
_RULE_OF_IPV6 = "ip -6 rule add to fd77::/16 lookup 77 priority 1000"
_FIREWALL = "table inet theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 9 drop; }; }"
_SYSCTLS = {
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/uplink/rp_filter": "1",
    "ipv4/conf/default/rp_filter": "2",
}
_SHOW = (
    "ip -details link; ip address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule;"
    "nft list ruleset"
)
_MOVES = "nf_conntrack_count"


def build(directory: Path) -> None:
    """Two addresses, a LAN, somebody's rules, tables and filters, strict reverse path filters, and a resolv.conf that
    is a link. To be called in a network and a mount namespace of one's own. `directory` is empty and will be covered
    by a file system in memory."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("none", str(directory), "tmpfs")
    _build_etc(directory / "etc", directory / "work")
    network = Network()
    Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1", encoding="ascii")
    network.ip(SET_UP + _LINKS)
    subprocess.run(_RULE_OF_IPV6.split(), check=True)
    network.wait_for_carrier()
    subprocess.run(["nft", "-f", "-"], input=_FIREWALL, text=True, check=True)
    for path, value in _SYSCTLS.items():
        Path("/proc/sys/net", path).write_text(value, encoding="ascii")


def look() -> dict[str, Any]:
    """Links, addresses, routes of all tables, rules, nftables, every sysctl of net, resolv.conf."""
    shown = subprocess.run(["sh", "-c", _SHOW], capture_output=True, text=True, check=True).stdout
    seen: dict[str, Any] = {"network": shown.splitlines()}
    for folder, _, names in os.walk("/proc/sys/net"):
        for path in (os.path.join(folder, name) for name in names if name != _MOVES):
            try:
                seen[path] = Path(path).read_text(errors="replace")
            except OSError as error:
                seen[path] = error.errno
    resolv_conf = Path("/etc/resolv.conf")
    seen["resolv.conf"] = resolv_conf.read_bytes().decode()
    seen["mode of resolv.conf"] = oct(resolv_conf.stat().st_mode)
    is_link = stat.S_ISLNK(resolv_conf.lstat().st_mode)
    seen["link of resolv.conf"] = os.readlink(resolv_conf) if is_link else None
    return seen


def differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is not as it was: before and now."""
    keys = sorted({*before, *now})
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}


def _build_etc(upper: Path, work: Path) -> None:
    upper.mkdir()
    work.mkdir()
    mount("none", "/etc", "overlay", options=f"lowerdir=/etc,upperdir={upper},workdir={work}")
    resolv_conf = Path("/etc/resolv.conf")
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.symlink_to("resolv.theirs")
    resolv_conf.write_text("nameserver 10.9.0.1\n# theirs, without an end of line")
    resolv_conf.chmod(0o640)
