"""`tunsmith connect` against servers on the kernel's TCP."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.cli.link import MACHINE, STACK, TUNSMITH, Machine, machine

pytestmark = pytest.mark.netns
families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def here() -> Iterator[Machine]:
    with machine() as fresh:
        yield fresh


def ends(family: int, port: int = 8000) -> tuple[str, ...]:
    return "tun0", STACK[family], "0", MACHINE[family], str(port)


@families
def test_what_is_piped_in_arrives_and_then_its_end(here: Machine, family: int) -> None:
    before = here.state()
    with here.program("collect", MACHINE[family], "8000") as server:
        done = here.connect(*ends(family), stdin=b"hi")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"bye", b"")
        assert server.stdout is not None
        assert server.stdout.readline() == f"2 {hashlib.sha256(b'hi').hexdigest()}\n"
    assert here.state() == before


@families
def test_a_hundred_megabytes_arrive_as_they_were(here: Machine, family: int) -> None:
    data = os.urandom(1_000_000) * 100
    with here.program("collect", MACHINE[family], "8000") as server:
        assert here.connect(*ends(family), stdin=data).returncode == 0
        assert server.stdout is not None
        assert server.stdout.readline() == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def test_what_comes_back_is_written_whole(here: Machine) -> None:
    with here.program("source", "20000000", MACHINE[4], "8000"):
        done = here.connect(*ends(4), stdin=bytes(10_000_000))
        assert (done.returncode, len(done.stdout)) == (0, 20_000_000)


def test_input_is_sent_as_it_comes_not_at_its_end(here: Machine) -> None:
    with (
        here.program("first", MACHINE[4], "8000") as server,
        here.popen(*TUNSMITH, "connect", *ends(4)) as client,
    ):
        assert client.stdin is not None
        client.stdin.write("now")
        client.stdin.flush()
        assert server.stdout is not None
        assert server.stdout.readline() == "now\n"
        client.stdin.close()
        assert client.wait(timeout=10) == 0


def test_a_file_is_input_as_well(here: Machine, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "file")
    with open(path, "w") as file:
        file.write("x" * 3_000_000)
    with (
        here.program("collect", MACHINE[4], "8000"),
        open(path) as file,
        here.popen(*TUNSMITH, "connect", *ends(4), stdin=file) as client,
    ):
        assert client.communicate(timeout=10) == ("bye", "")
        assert client.returncode == 0


def test_a_reset_is_104(here: Machine) -> None:
    with (
        here.program("reset", MACHINE[4], "8000"),
        here.popen(*TUNSMITH, "connect", "--json", *ends(4)) as client,
    ):
        assert client.stdin is not None
        client.stdin.write("x")
        client.stdin.flush()
        assert client.wait(timeout=10) == errno.ECONNRESET == 104
        assert client.stderr is not None
        complaint, report = client.stderr.read().splitlines()
        assert complaint == "tunsmith: 10.7.0.1 port 8000: Connection reset by peer"
        assert json.loads(report).items() >= {"exit_code": 104, "bytes_sent": 1}.items()


@families
def test_nobody_listens_is_111(here: Machine, family: int) -> None:
    done = here.connect(*ends(family))
    assert done.returncode == errno.ECONNREFUSED == 111
    assert done.stderr.decode() == f"tunsmith: {MACHINE[family]} port 8000: Connection refused\n"


def test_nobody_answers_is_110(here: Machine) -> None:
    here.run("ip", "tuntap", "add", "tun9", "mode", "tun")
    here.run("ip", "link", "set", "tun9", "up")
    done = here.connect("--timeout", "0.2", "tun9", STACK[4], "0", "192.0.2.9", "80")
    assert done.returncode == errno.ETIMEDOUT == 110
    (line,) = done.stderr.decode().splitlines()
    assert line == "tunsmith: Connection timed out: 192.0.2.9 port 80 did not answer within 0.2 s"


def test_no_way_there_is_101(here: Machine) -> None:
    here.tune({"net/ipv4/ip_forward": "1"})
    assert here.connect("tun0", STACK[4], "0", "192.0.2.9", "80").returncode == errno.ENETUNREACH == 101


def test_the_local_port_is_as_wished(here: Machine) -> None:
    with here.program("collect", MACHINE[4], "8000"):
        done = here.connect("-v", "tun0", STACK[4], "4321", MACHINE[4], "8000")
        assert done.stderr.decode().splitlines() == [
            "tunsmith: tun0 is made for this, and gone afterwards; this machine is 10.7.0.1 on it",
            "tunsmith: connected from port 4321",
        ]


def test_a_signal_resets_the_connection(here: Machine) -> None:
    with (
        here.program("watch", MACHINE[4], "8000") as server,
        here.popen(*TUNSMITH, "connect", *ends(4)) as client,
    ):
        assert server.stdout is not None
        assert server.stdout.readline() == "connected\n"
        client.send_signal(signal.SIGTERM)
        assert client.wait(timeout=10) == 143
        assert server.stdout.readline() == "ConnectionResetError\n"


def test_an_interface_that_is_deleted_ends_it_with_100(here: Machine) -> None:
    with (
        here.program("watch", MACHINE[4], "8000") as server,
        here.popen(*TUNSMITH, "connect", *ends(4)) as client,
    ):
        assert server.stdout is not None
        assert server.stdout.readline() == "connected\n"
        here.run("ip", "link", "delete", "tun0")
        assert client.wait(timeout=10) == errno.ENETDOWN == 100


def test_nobody_reads_the_output_is_141(here: Machine) -> None:
    with (
        here.program("source", "1000000", MACHINE[4], "8000"),
        here.popen(*TUNSMITH, "connect", *ends(4)) as client,
    ):
        assert client.stdout is not None
        client.stdout.close()
        assert client.wait(timeout=10) == 141


@families
def test_on_a_tap_it_is_a_neighbour__rfc826_rfc4861(here: Machine, family: int) -> None:
    with here.program("collect", MACHINE[family], "8000"):
        done = here.connect("--tap", "--mac", "02:00:5e:10:00:01", *ends(family), stdin=b"hi")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"bye", b"")
