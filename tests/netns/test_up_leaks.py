"""Nothing leaves C past the TUN: what the router sees while programs on C do their best to get out."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.machine import UP, fails, up
from tests.netns.servers import eventually
from tests.netns.topology import CALLER, SERVER, Namespace

pytestmark = pytest.mark.netns

LAN = "10.81.1.1"
SOCKS = f"socks5://{SERVER[4]}:{ports.SOCKS}"
TALKERS = """\
import socket, time
targets = [("10.81.9.3", 4000), ("fd81:9::3", 4000), ("10.81.2.2", 53), ("fd81:2::2", 53), ("9.9.9.9", 53),
           ("2620:fe::fe", 53), ("10.81.2.2", 443), ("fd81:2::2", 443)]
socks = {}
for host, port in targets:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socks[host, port] = socket.socket(family, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    for (host, port), sock in socks.items():
        try:
            sock.sendto(b"leak?", (host, port))
        except OSError:
            pass
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as tcp:
            tcp.setblocking(False)
            try:
                tcp.connect_ex((host, port))
            except OSError:
                pass
    time.sleep(0.01)
"""


@pytest.fixture
def root(caller: Caller) -> Caller:
    caller.user = 0
    return caller


class Wire:
    """What comes out of C, as (time, destination, text)."""

    def __init__(self, router: Namespace) -> None:
        options = ["-i", "rc0", "-nn", "-tt", "-l", "-q", "--immediate-mode"]
        self._seen = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is closed with the process; a pipe would fill
        wanted = f"src host {CALLER[4]} or src host {CALLER[6]}"
        self._process = subprocess.Popen(
            router.command(["tcpdump", *options, f"({wanted}) and not icmp6[0] >= 133"]),
            stdout=self._seen, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        while "listening on" not in self._process.stderr.readline():
            pass

    def close(self) -> list[tuple[float, str]]:
        """All packets: when, and where to."""
        time.sleep(0.1)  # what tcpdump has not read yet has no other sign
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=10)
        with self._seen as seen:
            seen.seek(0)
            matches = [re.match(r"(\d+\.\d+) IP6? \S+ > (\S+):", line) for line in seen]
        return [(float(match[1]), match[2]) for match in matches if match]


@contextmanager
def talkers(root: Caller) -> Iterator[None]:
    """Programs on C that send to everybody, many times a second."""
    with root.start(root.command(["python3", "-S", "-c", TALKERS])) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


def leaks(packets: list[tuple[float, str]], since: float, until: float) -> list[tuple[float, str]]:
    """Packets of that time that are not for the proxy. Its UDP relay has a port of its own."""
    mine = SERVER[4] + "."
    known = {f"{SERVER[4]}.{port}" for port in (53, 443)}
    return [
        (at, to)
        for at, to in packets
        if since < at < until and to != LAN and (to in known or not to.startswith(mine))
    ]


def test_nothing_leaks_from_the_word_that_it_works_to_the_signal_to_stop(root: Caller) -> None:
    wire = Wire(root.topology.router)
    with talkers(root):
        with up(root, "--via", SOCKS) as running:
            assert root.plain_client("connect", SERVER[6], ports.ECHO) == "open"
            root.plain("sleep", "2")
            stopped = time.time()
            running.stop()
        eventually(lambda: established_again(root), "C's own way out")
    packets = wire.close()
    began = running.told("up")[0]["at"]
    assert leaks(packets, began, stopped) == []
    assert any(to.startswith(f"{SERVER[4]}.{ports.SOCKS}") for _, to in packets)
    assert leaks(packets, 0, began), "the talkers are seen where there is no TUN yet"
    assert leaks(packets, stopped, time.time()), "and where there is none any more"


def established_again(root: Caller) -> bool:
    answer: bool = root.plain_client("connect", SERVER[4], ports.ECHO) == "open"
    return answer


def test_fail_closed_lets_nothing_out_after_a_crash_until_it_is_lifted(root: Caller) -> None:
    wire = Wire(root.topology.router)
    with talkers(root):
        with up(root, "--via", SOCKS, "--fail-closed") as running:
            began = running.told("up")[0]["at"]
            running.process.kill()
            running.process.wait()
            root.plain("sleep", "3")
            assert root.plain_client("connect", SERVER[4], ports.ECHO) in ("ENETUNREACH", "EHOSTUNREACH")
            assert root.plain("ping", "-c1", "-W2", LAN).returncode == 0, "the LAN stays"
            lifted = time.time()
            done = root.plain(*UP[:-1], "restore", "--state", str(root.home / "state"))
            assert done.returncode == 0, done.stderr
        assert root.plain_client("connect", SERVER[4], ports.ECHO) == "open"
    assert leaks(wire.close(), began, lifted) == []


def test_next_instance_that_fails_closed_takes_over_without_a_gap(root: Caller) -> None:
    wire = Wire(root.topology.router)
    with talkers(root):
        with up(root, "--via", SOCKS, "--fail-closed") as running:
            began = running.told("up")[0]["at"]
            running.process.kill()
            running.process.wait()
        with up(root, "--via", SOCKS, "--fail-closed") as running:
            assert root.plain_client("connect", SERVER[6], ports.ECHO) == "open"
            stopped = time.time()
            running.stop()
    assert leaks(wire.close(), began, stopped) == []


def test_start_that_fails_after_a_crash_opens_nothing(root: Caller) -> None:
    with up(root, "--via", SOCKS, "--fail-closed") as running:
        running.process.kill()
        running.process.wait()
    code, said = fails(root, "--fail-closed", "--via", f"socks5://{SERVER[4]}:{ports.CLOSED}")
    assert code != 0, said
    assert root.plain_client("connect", SERVER[6], ports.ECHO) in ("ENETUNREACH", "EHOSTUNREACH")
    assert root.plain(*UP[:-1], "restore", "--state", str(root.home / "state")).returncode == 0


def test_ipv6_is_refused_at_once_where_the_upstream_cannot_carry_it(root: Caller) -> None:
    """Captured, and answered: no program waits for a timeout, and nothing goes out beside the TUN."""
    with up(root, "--via", f"http://{SERVER[4]}:{ports.CONNECT}"):
        done = root.plain(*CLIENT, "udp_ask", SERVER[6], str(ports.WHO), "3")
        assert "ECONNREFUSED" in done.stdout
        assert done.seconds < 2
