"""`--publish`: servers inside, and real clients on the machine and beyond it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netns import ports
from tests.netns.caller import ROOT, Caller
from tests.netns.inside import TCP, UDP
from tests.netns.pattern import digest
from tests.netns.peers import READY
from tests.netns.servers import eventually
from tests.netns.topology import CALLER, CALLER_SECOND, SERVER, Namespace
from tunsmith.config import Network

pytestmark = pytest.mark.netns

INSIDE = [sys.executable, "-S", "-m", "tests.netns.inside"]
MEDIUM = 10 << 20
OUTER = 10000
"""Added to a port inside, the port outside."""
GATEWAY = {4: str(Network().gateway), 6: str(Network().gateway6)}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])

Client = Callable[..., Any]


class Published:
    """A `tunsmith run` with servers inside, and what they notice."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def notice(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        seen: dict[str, object] = json.loads(line)
        return seen

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """Let the servers end; the exit code and what was said on standard error."""
        _, err = self._process.communicate(timeout=20)
        return self._process.returncode, err


@contextmanager
def published(
    caller: Caller,
    *options: str,
    hosts: Sequence[str] = ("0.0.0.0", "::"),
    every: Sequence[str] = tuple(f"{OUTER + port}:{port}" for port in {*TCP, *UDP}),
) -> Iterator[Published]:
    flags = [word for text in every for word in ("--publish", text)]
    with caller.running(*INSIDE, *hosts, options=[*flags, *options]) as process:
        servers = Published(process)
        assert servers.notice() == {"server": READY}
        yield servers


def client(namespace: Namespace) -> Client:
    """client.py on that machine; the port is the one inside."""

    def run(function: str, host: str, port: int, *arguments: object) -> Any:
        words = [sys.executable, "-S", "-m", "tests.netns.client", function, host, str(port + OUTER)]
        return json.loads(
            subprocess.run(
                namespace.command([*words, *map(str, arguments)]),
                cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
            ).stdout
        )  # fmt: skip

    return run


@pytest.fixture
def far(caller: Caller) -> Client:
    return client(caller.topology.server)


@pytest.fixture
def near(caller: Caller) -> Client:
    return client(caller.topology.caller)


def complete(size: int) -> dict[str, object]:
    return {"count": size, "sha256": digest(size), "end": "fin"}


@FAMILIES
def test_servers_see_clients_by_their_own_address(caller: Caller, far: Client, family: int) -> None:
    with published(caller):
        assert far("ask", CALLER[family], ports.WHO).split()[0] == SERVER[family]
        assert far("udp_ask", CALLER[family], ports.WHO).split()[0] == SERVER[family]


@FAMILIES
def test_clients_on_loopback_are_seen_as_the_gateway(caller: Caller, near: Client, family: int) -> None:
    with published(caller):
        assert near("ask", LOOPBACK[family], ports.WHO).split()[0] == GATEWAY[family]
        assert near("udp_ask", LOOPBACK[family], ports.WHO).split()[0] == GATEWAY[family]


@FAMILIES
def test_bytes_pass_whole_and_each_half_closes_on_its_own(caller: Caller, far: Client, family: int) -> None:
    caller.captures = False
    with published(caller) as servers:
        assert far("upload", CALLER[family], ports.DIGEST, MEDIUM) == complete(MEDIUM)
        assert servers.notice() == {"server": "digest", **complete(MEDIUM)}
        assert far("download_after_fin", CALLER[family], ports.SOURCE, MEDIUM) == complete(MEDIUM)
        assert servers.notice() == {"server": "source", **complete(0)}
        seen = far("upload_after_their_fin", CALLER[family], ports.FIN_FIRST, MEDIUM)
        assert (seen["count"], seen["end"]) == (len(b"hello"), "fin")
        assert servers.notice() == {"server": "fin_first", **complete(MEDIUM)}


def test_resets_pass_both_ways(caller: Caller, far: Client) -> None:
    with published(caller) as servers:
        seen = far("be_reset", CALLER[4], ports.RESET)
        assert (seen["data"], seen["end"]) == ("half a li", "ECONNRESET")
        far("reset", CALLER[4], ports.DIGEST)
        assert servers.notice()["end"] == "reset"


@FAMILIES
def test_a_port_nobody_listens_on_inside_resets(caller: Caller, far: Client, family: int) -> None:
    with published(caller, every=[f"{OUTER + ports.CLOSED}:{ports.CLOSED}"]):
        with pytest.raises(subprocess.CalledProcessError, match="client") as caught:
            far("ask", CALLER[family], ports.CLOSED)
        assert "ConnectionResetError" in caught.value.stderr


@FAMILIES
def test_a_server_for_one_family_is_reached_by_both(
    caller: Caller, far: Client, near: Client, family: int
) -> None:
    other = 10 - family
    with published(caller, hosts=["0.0.0.0" if family == 4 else "::"]):
        for ask in ("ask", "udp_ask"):
            assert far(ask, CALLER[other], ports.WHO).split()[0] == GATEWAY[family]
            assert near(ask, LOOPBACK[other], ports.WHO).split()[0] == GATEWAY[family]


@FAMILIES
def test_many_clients_at_a_time(caller: Caller, far: Client, family: int) -> None:
    size = 1 << 18
    caller.captures = False
    with published(caller):
        assert far("parallel", CALLER[family], ports.DIGEST, 40, size) == [complete(size)] * 40


@FAMILIES
def test_datagrams_of_every_size_come_back(caller: Caller, far: Client, family: int) -> None:
    with published(caller):
        sizes = (0, 1, 1400, 1472, 1473, 9000, 60000)
        assert far("udp_echo", CALLER[family], ports.ECHO, *sizes) == [True] * len(sizes)


@FAMILIES
def test_super_datagrams_pass_both_ways(caller: Caller, far: Client, family: int) -> None:
    with published(caller):
        assert far("udp_segments_up", CALLER[family], ports.ECHO, 4, 20, 1200)
        assert far("udp_segments_down", CALLER[family], ports.BURST, 4, 20, 1200)["complete"]


@FAMILIES
def test_answers_leave_from_the_address_that_was_asked(caller: Caller, far: Client, family: int) -> None:
    """A connected socket takes no other, and C's own choice would be that of c0."""
    with published(caller):
        assert far("udp_ask", CALLER_SECOND[family], ports.WHO).split()[0] == SERVER[family]


def test_an_address_limits_who_may_come(caller: Caller, far: Client, near: Client) -> None:
    with published(caller, every=[f"127.0.0.1:{OUTER + ports.WHO}:{ports.WHO}"]):
        assert near("connect", "127.0.0.1", ports.WHO) == "open"
        assert near("connect", "::1", ports.WHO) == "ECONNREFUSED"
        assert far("connect", CALLER[4], ports.WHO) == "ECONNREFUSED"


def test_ports_are_given_back(caller: Caller) -> None:
    with published(caller) as servers:
        assert caller.topology.caller.listens(OUTER + ports.WHO)
        assert servers.end() == (0, "")
    for protocol in ("tcp", "udp"):
        assert not caller.topology.caller.listens(OUTER + ports.WHO, protocol)


def test_the_program_itself_may_come_by_the_outer_port(caller: Caller, far: Client) -> None:
    """CMD -> TUN -> tunsmith -> C's own address -> published port -> TUN -> CMD."""
    with published(caller):
        inner = caller.client("ask", CALLER[4], OUTER + ports.WHO)
    assert inner.split()[0] in CALLER.values()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use_is_one_line_before_the_program_starts(caller: Caller, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    script = (
        f"import socket, sys; s = socket.socket(socket.AF_INET, {int(kind)}); s.bind(('0.0.0.0', 12345));"
        "hasattr(s, 'x'); "
        + ("s.listen();" if protocol == "tcp" else "")
        + "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        caller.topology.caller.command([sys.executable, "-S", "-c", script]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        other.stdout.readline()
        done = caller.run("echo", "started", options=["--publish", f"12345:80/{protocol}"])
        other.communicate()
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"tunsmith: --publish: {protocol} 0.0.0.0:12345: the port is in use by another program\n"
    )


def test_ports_that_cannot_be_opened_are_explained(caller: Caller) -> None:
    done = caller.run("echo", "started", options=["--publish", "80:80"])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.count("\n") == 1
    assert "ports below 1024" in done.stderr
    done = caller.run("echo", "started", options=["--publish", "192.0.2.77:8080:80"])
    assert "192.0.2.77:8080: this machine has no such address" in done.stderr


def test_a_killed_tunsmith_leaves_no_listener(caller: Caller) -> None:
    with published(caller) as servers:
        servers.kill()
        eventually(lambda: not caller.topology.caller.listens(OUTER + ports.WHO), "the end of the listener")
