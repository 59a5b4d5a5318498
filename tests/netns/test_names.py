"""DNS of real programs: by the caller's resolvers, wherever they are, and bounded in time when they are not."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.netns import ports
from tests.netns.caller import Caller
from tests.netns.servers import Servers, eventually, write_zone
from tests.netns.topology import BLACK_HOLE, SERVER, Topology

pytestmark = pytest.mark.netns

ON_LOOPBACK = ["127.0.0.53", "::1"]


@pytest.fixture(scope="module")
def resolver_on_loopback(world: tuple[Topology, Servers]) -> Iterator[None]:
    """A resolver that only the caller's machine can reach."""
    topology, servers = world
    config = write_zone(servers.files, ON_LOOPBACK)
    process = servers.start(topology.caller, "unbound", "-d", "-p", "-c", str(config))
    eventually(lambda: topology.caller.listens(ports.DNS), "the resolver on loopback")
    yield
    process.terminate()
    process.wait()


@pytest.mark.usefixtures("resolver_on_loopback")
@pytest.mark.parametrize("address", ON_LOOPBACK)
def test_resolver_on_loopback(caller: Caller, address: str) -> None:
    caller.resolvers = (address,)
    done = caller.run(
        "dig", "+short", "both.example.test", "A", "+tcp", "both.example.test", "AAAA"
    )  # fmt: skip
    assert done.stdout.split() == list(SERVER.values()), done
    assert caller.client("look_up", "both.example.test") == sorted(SERVER.values())
    assert caller.run("curl", "-sS", "http://both.example.test/").stdout == "hello from S\n"


def test_answers_are_what_they_are_without_us(caller: Caller) -> None:
    """Existing, missing, too long for a datagram, of several kinds, over both transports."""
    questions = (
        "www.example.test A", "www.example.test MX", "missing.example.test A", "long.example.test TXT",
        "elsewhere.test A", "-x 10.81.2.2", "both.example.test ANY", "+bufsize=4096 long.example.test TXT",
        "+noedns www.example.test", "+tcp long.example.test TXT",
    )  # fmt: skip
    script = "; ".join(f"dig +noall +comments +answer +nocmd {question}" for question in questions)
    # Identifiers and cookies differ, and so does the order of records in a set.
    script = f"({script}) | grep -v -e '->>' -e COOKIE | sort"
    without = caller.plain("sh", "-c", script)
    assert "10.81.2.2" in without.stdout
    assert caller.run("sh", "-c", script).stdout == without.stdout


def test_missing_name_is_missing_at_once(caller: Caller) -> None:
    without = caller.plain_client("look_up", "missing.example.test")
    assert caller.client("look_up", "missing.example.test") == without


@pytest.mark.slow
def test_dead_resolver_is_servfail_in_bounded_time(caller: Caller) -> None:
    caller.resolvers = (BLACK_HOLE[4],)
    done = caller.run("dig", "+tries=1", "+time=14", "www.example.test")
    assert "status: SERVFAIL" in done.stdout, done


def test_resolver_that_refuses_is_servfail_at_once(caller: Caller) -> None:
    """Where nobody listens; dig would wait for five seconds."""
    caller.resolvers = ("10.81.1.1",)
    done = caller.run("dig", "+tries=1", "+time=5", "www.example.test")
    assert "status: SERVFAIL" in done.stdout, done


def test_dead_resolver_is_replaced_by_the_next(caller: Caller) -> None:
    caller.resolvers = (BLACK_HOLE[4], SERVER[4])
    assert caller.client("look_up", "www.example.test", 2) == [SERVER[4]]


def test_two_thousand_queries_leave_no_descriptors(caller: Caller) -> None:
    """Each from a port of its own; a query is over with its answer."""
    caller.captures = False
    script = (
        "import socket\n"
        "query = bytes.fromhex('000101000001000000000000037777770765786d706c6504746573740000010001')\n"
        "query = query.replace(b'\\x07exmple\\x04', b'\\x07example\\x04')\n"
        "for number in range(2000):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n"
        "        sock.settimeout(10)\n"
        "        sock.connect(('198.18.0.2', 53))\n"
        "        sock.send(number.to_bytes(2, 'big') + query[2:])\n"
        "        assert sock.recv(1000)[:2] == number.to_bytes(2, 'big')\n"
        "print('ok')\n"
    )
    caller.extra = "ulimit -n 200"
    done = caller.run(sys.executable, "-c", script)
    assert (done.stdout, done.stderr) == ("ok\n", "")
