"""Behind a proxy: names go as names and nowhere else, and what is wrong with the proxy is said in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, TUNSMITH, Caller
from tests.netns.pattern import digest
from tests.netns.servers import Peers, Servers, eventually
from tests.netns.topology import SERVER, Topology

pytestmark = pytest.mark.netns

HERE, THERE = SERVER[4], f"[{SERVER[6]}]"
SOCKS = f"socks5://{HERE}:{ports.SOCKS}"
HTTP = f"http://{HERE}:{ports.CONNECT}"
PASSWORD = "user:pass%20word"
MEDIUM = 20 << 20
TCP_PROXIES = {
    "socks5": SOCKS,
    "socks5 by name": f"socks5://www.example.test:{ports.SOCKS}",
    "socks5 over IPv6": f"socks5://{THERE}:{ports.SOCKS}",
    "socks5 unsaid": f"{HERE}:{ports.SOCKS}",
    "socks5 with password": f"socks5://{PASSWORD}@{HERE}:{ports.SOCKS_PASSWORD}",
    "http": HTTP,
    "http with password": f"http://{PASSWORD}@{HERE}:{ports.CONNECT_PASSWORD}",
}
BOTH = pytest.mark.parametrize("proxy", [SOCKS, HTTP], ids=["socks5", "http"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def no_dns(caller: Caller) -> Iterator[None]:
    """Not one packet to port 53 leaves the caller's machine, nor goes to a resolver on it."""
    nft = caller.topology.caller.run
    nft("nft", "add table inet watch")
    nft("nft", "add chain inet watch output { type filter hook output priority 0; }")
    nft("nft", "add rule inet watch output meta l4proto { tcp, udp } th dport { 53, 853, 5353 } counter")
    yield
    rules = nft("nft", "list table inet watch")
    nft("nft", "delete table inet watch")
    assert "counter packets 0 bytes 0" in rules


@pytest.mark.parametrize("proxy", TCP_PROXIES.values(), ids=TCP_PROXIES.keys())
def test_names_arrive_as_names(caller: Caller, peers: Peers, proxy: str) -> None:
    done = caller.run("curl", "-sS", "http://www.example.test/", options=["--via", proxy])
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from S\n", "")
    assert [seen["target"] for seen in peers.forget()] == ["www.example.test:80"]


@pytest.mark.usefixtures("no_dns")
@BOTH
def test_no_query_leaves_the_machine(caller: Caller, proxy: str) -> None:
    script = (
        "curl -sS http://www.example.test/; curl -sS http://six.example.test/;"
        f"{CLIENT[0]} -S -m tests.netns.client look_up unknown.example.test;"
        "dig +short +tries=1 +time=2 www.example.test; dig +short +tcp +tries=1 +time=2 www.example.test AAAA;"
        f"dig +short +tries=1 +time=2 @9.9.9.9 www.example.test; getent hosts www.example.test; exit 0"
    )
    done = caller.run("sh", "-c", script, options=["--via", proxy])
    assert done.stdout.startswith("hello from S\n" * 2), done
    fakes = re.findall(r"198\.18\.\d+\.\d+|2001:2::\w+", done.stdout)
    assert len(fakes) > 4


@BOTH
@FAMILIES
def test_addresses_work_as_well(caller: Caller, proxy: str, family: int) -> None:
    where = SERVER[family]
    assert caller.client("connect", where, ports.ECHO, options=["--via", proxy]) == "open"


@BOTH
def test_transfers(caller: Caller, peers: Peers, proxy: str) -> None:
    whole = {"count": MEDIUM, "sha256": digest(MEDIUM), "end": "fin"}
    via = ["--via", proxy]
    host = "www.example.test"
    assert caller.client("upload", host, ports.DIGEST, MEDIUM, options=via) == whole
    assert caller.client("download_after_fin", host, ports.SOURCE, MEDIUM, options=via) == whole
    caller.client("upload_after_their_fin", host, ports.FIN_FIRST, MEDIUM, options=via)
    assert peers.next("fin_first") == {"server": "fin_first", **whole}


@BOTH
def test_server_that_speaks_first(caller: Caller, proxy: str) -> None:
    """What comes along with the proxy's own answer belongs to the application."""
    seen = caller.client("ask", "www.example.test", ports.WHO, options=["--via", proxy])
    assert seen.split()[0] == SERVER[4]


def test_reset_arrives_as_reset_through_a_proxy_that_passes_it_on(caller: Caller) -> None:
    seen = caller.client("be_reset", "www.example.test", ports.RESET, options=["--via", SOCKS])
    assert seen["end"] == "ECONNRESET"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (1, "EHOSTUNREACH"), (2, "EHOSTUNREACH"), (3, "ENETUNREACH"), (4, "EHOSTUNREACH"),
        (5, "ECONNREFUSED"), (6, "EHOSTUNREACH"), (7, "ENOPROTOOPT"), (8, "ENOPROTOOPT"),
    ],
)  # fmt: skip
def test_reply_of_the_proxy_becomes_an_error_of_the_kernel(caller: Caller, code: int, told: str) -> None:
    assert caller.client("connect", f"reply-{code}.example.test", 80, options=["--via", SOCKS]) == told


@BOTH
def test_closed_port_behind_a_proxy(caller: Caller, proxy: str) -> None:
    """SOCKS5 has a word for it; of a status of HTTP only "cannot get there" is left."""
    seen = caller.client("connect", "www.example.test", ports.CLOSED, options=["--via", proxy])
    assert seen == ("ECONNREFUSED" if proxy == SOCKS else "EHOSTUNREACH")


@FAMILIES
def test_datagrams_through_socks5(caller: Caller, family: int) -> None:
    sizes = [0, 1, 1200, 1473, 8192, 60000]
    echoes = caller.client("udp_echo", SERVER[family], ports.ECHO, *sizes, options=["--via", SOCKS])
    assert echoes == [True] * len(sizes)


@FAMILIES
def test_one_port_inside_is_one_port_behind_the_proxy(caller: Caller, family: int) -> None:
    host = SERVER[family]
    ask = ("udp_from_one_port", host, ports.WHO, host, ports.WHO_ELSE, host, ports.WHO)
    seen = caller.client(*ask, options=["--via", SOCKS])
    assert len({mapping for mapping, *_ in seen}) == 1
    assert [port for _, _, port in seen] == [ports.WHO, ports.WHO_ELSE, ports.WHO]


def test_strangers_may_answer_through_a_proxy(caller: Caller) -> None:
    ask = ("udp_from_one_port", SERVER[4], ports.STRANGER)
    [[said, host, port]] = caller.client(*ask, options=["--via", SOCKS])
    assert (said, host) == ("?", SERVER[4])
    assert port != ports.STRANGER


def test_datagrams_to_a_name_are_answered_from_its_fake_address(caller: Caller, peers: Peers) -> None:
    echo = caller.client("udp_ask", "quic.example.test", ports.WHO, options=["--via", SOCKS])
    assert echo.split()[0] == SERVER[4]


def test_segmented_super_datagrams_through_socks5(caller: Caller) -> None:
    seen = caller.client("udp_segments_up", SERVER[4], ports.ECHO, 20, 40, 1200, options=["--via", SOCKS])
    assert seen is True


@pytest.mark.parametrize(
    "proxy", [f"socks5://{HERE}:{ports.SOCKS_WITHOUT_UDP}", HTTP], ids=["socks5", "http"]
)
@pytest.mark.parametrize("host", [*SERVER.values(), "quic.example.test"])
def test_quic_is_refused_at_once_where_the_proxy_carries_no_udp(
    caller: Caller, proxy: str, host: str
) -> None:
    assert caller.client("udp_ask", host, 443, 20, options=["--via", proxy]) == "ECONNREFUSED"


@pytest.mark.parametrize("host", [*SERVER.values(), "www.example.test"])
def test_blocked_is_refused_at_once(caller: Caller, host: str) -> None:
    block = ["--via", "block"]
    assert caller.client("connect", host, ports.ECHO, 20, options=block) == "ECONNREFUSED"
    assert caller.client("udp_ask", host, ports.ECHO, 20, options=block) == "ECONNREFUSED"


@BOTH
@pytest.mark.parametrize("inner", ["direct", SOCKS])
def test_one_inside_the_other(caller: Caller, proxy: str, inner: str) -> None:
    """tunsmith is a program like others; the proxy of the inner one is reached through that of the outer."""
    nested = [*TUNSMITH, "--via", inner, "--", "curl", "-sS", "http://www.example.test/"]
    done = caller.run(*nested, options=["--via", proxy])
    assert (done.stdout, done.stderr) == ("hello from S\n", "")


@pytest.mark.parametrize(
    ("proxy", "complaint"),
    [
        (f"socks5://{HERE}:{ports.CLOSED}", "the proxy refuses connections; is it running?"),
        (f"http://{HERE}:{ports.CLOSED}", "the proxy refuses connections; is it running?"),
        (f"socks5://{HERE}:{ports.RESETTING}", "the proxy hung up (Connection reset by peer)"),
        (f"socks5://{HERE}:{ports.SSH}", "the proxy does not speak its protocol: "),
        pytest.param(
            f"socks5://{HERE}:{ports.HANGING}", "the proxy did not answer within 10 s", marks=pytest.mark.slow
        ),
        (
            f"socks5://{HERE}:{ports.SOCKS_PASSWORD}",
            "wants a user name and password: socks5://USER:PASSWORD@...",
        ),
        (f"socks5://user:wrong@{HERE}:{ports.SOCKS_PASSWORD}", "does not accept this user name and password"),
        ("socks5://10.82.0.1:1080", "cannot reach the proxy: "),
        ("socks5://nowhere.example.test:1080", "no such name"),
    ],
)
def test_proxy_that_cannot_be_used_is_named_in_one_line(caller: Caller, proxy: str, complaint: str) -> None:
    done = caller.run("echo", "started", options=["--via", proxy])
    assert (done.returncode, done.stdout) == (125, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("tunsmith: ")
    assert complaint in line
    assert "wrong@" not in line


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("reset.example.test", "the proxy hung up"),
        ("nonsense.example.test", "the proxy does not speak its protocol"),
    ],
)
def test_proxy_that_breaks_off_later_fails_that_flow_and_says_so(
    caller: Caller, name: str, complaint: str
) -> None:
    script = (
        f"{CLIENT[0]} -S -m tests.netns.client connect {name} 80;"
        f"{CLIENT[0]} -S -m tests.netns.client connect {name} 81; curl -sS http://www.example.test/"
    )
    done = caller.run("sh", "-c", script, options=["--via", SOCKS])
    assert done.stdout.splitlines() == ['"EHOSTUNREACH"', '"EHOSTUNREACH"', "hello from S"]
    [line] = done.stderr.splitlines()
    assert complaint in line


def test_proxy_that_hangs_on_one_destination_holds_up_nobody_else(caller: Caller) -> None:
    script = (
        f"{CLIENT[0]} -S -m tests.netns.client connect hang.example.test 80 1;"
        "curl -sS http://www.example.test/"
    )
    done = caller.run("sh", "-c", script, options=["--via", SOCKS])
    assert done.stdout.splitlines() == ['"timeout"', "hello from S"]


def test_wrong_password_of_an_http_proxy_shows_with_the_first_flow(caller: Caller) -> None:
    """HTTP has no log-in that comes before a destination."""
    proxy = f"http://user:wrong@{HERE}:{ports.CONNECT_PASSWORD}"
    done = caller.run("curl", "-sS", "http://www.example.test/", options=["--via", proxy])
    assert done.returncode == 7
    lines = [line for line in done.stderr.splitlines() if line.startswith("tunsmith: ")]
    assert len(lines) == 1
    assert "does not accept this user name and password" in lines[0]


def test_proxy_that_trickles_is_waited_for_with_a_limit(caller: Caller) -> None:
    """Its answer never ends. A flow is given up whenever its program does that; the question for UDP has ten
    seconds, in which nobody waits for it."""
    proxy = f"socks5://{HERE}:{ports.TRICKLING}"
    assert caller.client("connect", "www.example.test", 80, 1, options=["--via", proxy]) == "timeout"


def test_proxy_that_dies_is_told_of_once_and_used_again_when_it_is_back(
    caller: Caller, world: tuple[Topology, Servers]
) -> None:
    _, servers = world
    script = (
        "import asyncio, tunsmith.testing.socks_server as s\n"
        "async def main():\n"
        f"    async with s.SocksServer('{HERE}', {ports.MORTAL}): await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    listens = partial(servers.namespace.listens, ports.MORTAL)

    def start() -> subprocess.Popen[bytes]:
        process = servers.start(servers.namespace, sys.executable, "-c", script)
        eventually(listens, "the mortal proxy")
        return process

    fetch = f"curl -sS -o /dev/null -w '%{{http_code}}\\n' http://{HERE}/ 2>/dev/null"
    command = f"for n in 1 2 3 4; do {fetch}; read go; done; exit 0"
    options = ["--via", f"socks5://{HERE}:{ports.MORTAL}"]
    proxy = start()
    with caller.running("sh", "-c", command, options=options) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said = [process.stdout.readline()]
        proxy.kill()
        proxy.wait()
        for n in range(3):
            if n == 2:
                proxy = start()
            process.stdin.write("go\n")
            process.stdin.flush()
            said.append(process.stdout.readline())
        process.stdin.close()
        assert process.wait() == 0
        assert said == ["200\n", "000\n", "000\n", "200\n"]
        [line] = process.stderr.read().splitlines()
        assert "the proxy refuses connections; is it running?" in line
    proxy.kill()
    proxy.wait()
