"""Paths that are narrow, lossy or busy, and tuples that are used again."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.chaos import RESET, Plan, plans
from tests.netns.pattern import digest
from tests.netns.servers import Peers
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", [4, 6])
MEDIUM = 20 << 20


LOSE = (
    "nft add table inet lossy;"
    "for hook in input output; do"
    ' nft "add chain inet lossy $hook { type filter hook $hook priority 0; }";'
    " nft add rule inet lossy $hook numgen random mod 50 == 0 drop; done;"
)
"""One packet of fifty is lost each way, super-segments as well."""


@pytest.fixture
def narrow(caller: Caller) -> Iterator[None]:
    """The last link takes 1300 bytes."""
    router, server = caller.topology.router, caller.topology.server
    router.run("ip", "link", "set", "rs0", "mtu", "1300")
    yield
    router.run("ip", "link", "set", "rs0", "mtu", "1500")
    for namespace in (caller.topology.caller, server):
        namespace.run("ip", "route", "flush", "cache")
        namespace.run("ip", "-6", "route", "flush", "cache")


@pytest.mark.usefixtures("narrow")
@FAMILIES
def test_narrow_link_is_learnt_from_icmp_as_without_us(caller: Caller, family: int) -> None:
    """QUIC and others probe for the largest datagram that is not fragmented."""
    assert caller.client("udp_path_mtu", SERVER[family], ports.ECHO, 1400) == ["EMSGSIZE", 1300]
    assert caller.plain_client("udp_path_mtu", SERVER[family], ports.ECHO, 1400) == ["EMSGSIZE", 1300]


@pytest.mark.usefixtures("narrow")
@FAMILIES
def test_narrow_link_is_no_matter_to_tcp(caller: Caller, family: int) -> None:
    whole = {"count": MEDIUM, "sha256": digest(MEDIUM), "end": "fin"}
    assert caller.client("upload", SERVER[family], ports.DIGEST, MEDIUM) == whole
    assert caller.client("download", SERVER[family], ports.SOURCE, MEDIUM) == whole


@FAMILIES
@pytest.mark.parametrize("offload", ["on", "off"])
def test_nothing_is_lost_where_the_device_loses_packets(caller: Caller, family: int, offload: str) -> None:
    caller.user = 0
    size = 5 << 20
    whole = {"count": size, "sha256": digest(size), "end": "fin"}
    lose = LOSE
    if offload == "off":
        lose += "ip link set tun0 gso_max_segs 1;"
    for function, port in (("upload", ports.DIGEST), ("download", ports.SOURCE)):
        client = [*CLIENT, function, SERVER[family], str(port), str(size)]
        done = caller.run("sh", "-c", f'{lose} exec "$@"', "sh", *client)
        assert done.json == whole


@FAMILIES
def test_same_port_again(caller: Caller, family: int) -> None:
    """Our side of the last connection may still be in TIME-WAIT."""
    assert caller.client("same_port_again", SERVER[family], ports.WHO, 20) == 20


def test_many_short_connections(caller: Caller) -> None:
    urls = caller.home / "urls"
    urls.write_text(f'url = "http://{SERVER[4]}/"\noutput = "/dev/null"\n' * 1000)
    done = caller.run(
        "curl", "-sS", "--parallel", "--parallel-max", "50", "--http1.0", "-H", "Connection: close",
        "-w", "%{http_code}\n", "-K", str(urls), timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200"] * 1000


@pytest.mark.parametrize("way", ["direct", "socks5", "lossy", "lossy socks5"])
@pytest.mark.parametrize("seed", [1, 2])
def test_conversations_of_every_shape(caller: Caller, peers: Peers, way: str, seed: int) -> None:
    caller.captures = False
    caller.user = 0
    count = 30 if "lossy" in way else 60
    client = [sys.executable, "-m", "tests.netns.chaos", SERVER[4 if seed % 2 else 6], str(ports.CHAOS)]
    options = ["--via", f"socks5://{SERVER[4]}:{ports.SOCKS}"] if "socks5" in way else []
    resets = "lossy" not in way
    kind = "resets" if resets else "orderly"
    script = f'{LOSE if "lossy" in way else ""} exec "$@"'
    done = caller.run(
        "sh", "-c", script, "sh", *client, str(seed), str(count), kind, options=options, timeout=110
    )
    at_server = [peers.next("chaos") for _ in range(count)]
    for plan, client_heard in zip(plans(seed, count, resets), done.json, strict=True):
        server_heard = next(heard for heard in at_server if heard["number"] == plan.number)
        check(plan, client_heard, plan.down, plan.server)
        check(plan, server_heard, plan.up, plan.client)


def check(plan: Plan, heard: dict[str, object], size: int, teller: str) -> None:
    """All of it and FIN; or, from an end that resets, less and a reset: never less and FIN."""
    if heard["end"] == RESET:
        return
    if teller == "resets":
        assert heard["end"] != "fin", (plan, heard)
        return
    assert (heard["count"], heard["end"]) == (size, "fin"), (plan, heard)
    assert heard["sha256"] == digest(size), (plan, heard)


def test_the_wire_inside_is_not_paced(caller: Caller) -> None:
    """BBR, where it is the default, would hold uploads back on a wire that is memory."""
    done = caller.run("cat", "/proc/sys/net/ipv4/tcp_congestion_control")
    assert done.stdout == "reno\n"
