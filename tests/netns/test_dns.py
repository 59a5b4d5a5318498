"""DNS of whole programs under `tunsmith run`: they resolve, and nothing escapes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRELUDE = """\
set -e
ip link set lo up
ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up
ip addr add fe80::53/64 dev d0 nodad
mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200
mount -t tmpfs none /mnt
printf 'nameserver %s\\nnameserver 8.8.8.8\\nsearch corp.example\\n' $RESOLVER >/mnt/resolv.conf
mount --bind /mnt/resolv.conf /etc/resolv.conf
exec "$@"
"""
PYTHON_LOOKS_UP = (
    f"{sys.executable} -c 'import socket; print(*sorted({{a[4][0] for a in"
    ' socket.getaddrinfo("www.example.com", 80)}))\''
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare(1)"
    ),
    pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig (bind9-dnsutils)"),
]


@dataclass
class Outcome:
    output: list[str]
    own: list[list[str]]
    remote: list[list[str]]
    proxy: list[str]
    port53: list[str]


def run(script: str, proxy: bool = False, resolver: str = "127.0.0.53") -> Outcome:
    """What came of `tunsmith run -- sh -c script` on a machine of its own, see dns_machine.py."""
    on_machine = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", PRELUDE, "sh"]
    command = [sys.executable, "-m", "tests.netns.dns_machine", *(["--proxy"] if proxy else []), script]
    process = subprocess.run(
        [*on_machine, *command],
        cwd=ROOT,
        env={**os.environ, "RESOLVER": resolver, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    seen = json.loads(process.stdout)
    return Outcome(seen["output"], seen["own"], seen["remote"], seen["proxy"], seen["port 53"])


def test_direct_asks_the_resolver_of_the_caller():
    seen = run(f"dig +short www.example.com; dig +short +tcp www.example.com; {PYTHON_LOOKS_UP}")
    assert seen.output == ["192.0.2.80"] * 3
    assert {transport for *_, transport in seen.own} == {"udp", "tcp"}
    assert seen.port53 == ["127.0.0.53"]


@pytest.mark.parametrize("resolver", ["::1", "fe80::53%d0"])
def test_direct_asks_resolvers_on_ipv6_loopback_and_link_local_addresses(resolver):
    seen = run("dig +short www.example.com; dig +short +tcp www.example.com", resolver=resolver)
    assert seen.output == ["192.0.2.80"] * 2
    assert seen.port53 == [resolver.partition("%")[0]]


def test_direct_keeps_the_search_list_and_the_truth_about_missing_names():
    seen = run("getent ahostsv4 intranet | cut -d' ' -f1 | uniq; dig a.none | grep -o 'status: [A-Z]*'")
    assert seen.output == ["192.0.2.80", "status: NXDOMAIN"]
    assert seen.own[0][0] == "intranet.corp.example."


def test_direct_large_answers_arrive_over_tcp_after_truncation():
    seen = run("dig +short big.example TXT | wc -c")
    assert int(seen.output[0]) > 3000
    assert [transport for *_, transport in seen.own] == ["udp", "tcp"]


def test_through_a_proxy_names_get_fake_addresses_however_they_are_asked():
    seen = run(
        "dig +short www.example.com; dig +short +tcp www.example.com;"
        "dig +short @9.9.9.9 www.example.com; dig +short +tcp @2620:fe::fe www.example.com;"
        f"dig +short AAAA www.example.com; {PYTHON_LOOKS_UP}; dig +short -x 198.18.0.3;"
        "dig +short HTTPS www.example.com",
        proxy=True,
    )
    fake = ["198.18.0.3"] * 4 + ["2001:2::3", "198.18.0.3 2001:2::3", "www.example.com."]
    assert seen.output == fake
    assert (seen.own, seen.remote, seen.proxy, seen.port53) == ([], [], [], [])


def test_through_a_proxy_names_arrive_as_names_and_nothing_leaks():
    seen = run("curl -sS http://www.example.com/; curl -sS -6 http://ipv6.example.com/", proxy=True)
    assert seen.output == ["you asked for www.example.com", "you asked for ipv6.example.com"]
    assert seen.proxy == ["name www.example.com 80", "name ipv6.example.com 80"]
    assert (seen.own, seen.port53) == ([], [])


def test_through_a_proxy_other_records_come_from_a_resolver_behind_it():
    seen = run(
        "dig +short TXT www.example.com | wc -c; dig +short TXT @9.9.9.9 a.example | wc -c", proxy=True
    )
    assert all(int(count) > 3000 for count in seen.output)
    assert seen.remote == [["www.example.com.", "TXT", "tcp"]] * 2 + [["a.example.", "TXT", "tcp"]] * 2
    assert seen.proxy == ["address 8.8.8.8 53"] * 2 + ["address 9.9.9.9 53"] * 2
    assert (seen.own, seen.port53) == ([], [])


def test_through_a_proxy_a_fake_address_without_a_name_is_refused_at_once():
    seen = run("curl -sS http://198.18.7.7/ 2>&1; curl -sS http://[2001:2::7777]/ 2>&1", proxy=True)
    assert all("refused" in line or "Couldn't connect" in line for line in seen.output)
    assert len(seen.output) == 2
    assert seen.proxy == []
