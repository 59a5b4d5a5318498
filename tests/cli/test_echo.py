"""`tunsmith echo` against the kernel's TCP: curl's and netcat's, and fifty clients at once."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.cli.link import MACHINE, STACK, TUNSMITH, Machine, machine
from tests.netns.servers import eventually

pytestmark = pytest.mark.netns
families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def here() -> Iterator[Machine]:
    with machine() as fresh:
        yield fresh


@families
def test_what_is_said_comes_back_and_nothing_of_the_kernel_listens(here: Machine, family: int) -> None:
    before = here.state()
    with here.echo("tun0", STACK[family]) as echo:
        assert here.run("nc", "-N", STACK[family], "7", stdin="hello\n") == "hello\n"
        assert here.run("ss", "-Htln") == ""
        assert "1 received" in here.run("ping", "-c", "1", STACK[family])
        echo.send_signal(signal.SIGTERM)
        out, err = echo.communicate(timeout=10)
        assert (echo.returncode, err) == (0, "")
        (event,) = map(json.loads, out.splitlines())
        assert event.items() >= {"event": "connection", "outcome": "closed", "received": 6, "sent": 6}.items()
        assert event["peer"] == MACHINE[family]
    assert here.state() == before


@families
def test_on_a_tap_it_is_a_neighbour_with_a_mac__rfc826_rfc4861(here: Machine, family: int) -> None:
    with here.echo("--tap", "--mac", "02:00:5e:10:00:01", "tun0", STACK[family]):
        assert here.run("nc", "-N", STACK[family], "7", stdin="hello\n") == "hello\n"
        assert "1 received" in here.run("ping", "-c", "1", STACK[family])
        neighbours = here.run("ip", "neighbour", "show", "dev", "tun0")
        assert f"{STACK[family]} lladdr 02:00:5e:10:00:01" in neighbours


def test_on_a_tap_an_address_that_another_station_has_is_refused__rfc5227_2_1(here: Machine) -> None:
    here.run("ip", "link", "add", "br0", "type", "bridge")
    here.run("ip", "link", "set", "br0", "up")
    for tap in ("tap8", "tap9"):
        here.run("ip", "tuntap", "add", tap, "mode", "tap")
        here.run("ip", "link", "set", tap, "master", "br0", "up")
    with here.echo("--tap", "tap8", "10.9.0.7"):
        with here.popen(*TUNSMITH, "echo", "--tap", "tap9", "10.9.0.7", "7") as second:
            out, err = second.communicate(timeout=10)
        assert (second.returncode, out) == (125, "")
        assert err == "tunsmith: Address already in use: another station has 10.9.0.7\n"


def test_fifty_clients_at_once_get_fifty_megabytes_back(here: Machine) -> None:
    with here.echo("tun0", STACK[4]), here.program("clients", "50", "1000000", STACK[4]) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "50\n"


def test_fifty_clients_at_once_ipv6(here: Machine) -> None:
    with here.echo("tun0", STACK[6]), here.program("clients", "50", "1000000", STACK[6]) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "50\n"


def test_a_slow_reader_holds_up_only_himself(here: Machine) -> None:
    """He sends and does not read: his bytes wait within bounds, others are served."""
    stall = (
        "import socket,sys; s=socket.create_connection(('10.7.0.2',7)); s.setblocking(False)\n"
        "try:\n while True: s.send(bytes(1<<20))\n"
        "except BlockingIOError: print('full', flush=True); sys.stdin.read()"
    )
    with here.echo("tun0", STACK[4]), here.popen(sys.executable, "-c", stall) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "full\n"
        assert here.run("nc", "-N", STACK[4], "7", stdin="hello\n") == "hello\n"
        slow.kill()


def test_killed_it_leaves_nothing(here: Machine) -> None:
    before = here.state()
    with here.echo("tun0", STACK[4]) as echo:
        assert here.has("tun0")
        echo.kill()
        echo.wait()
    eventually(lambda: here.state() == before, "the machine as it was")


def test_an_interface_that_is_there_is_used_and_left(here: Machine) -> None:
    for line in (
        "tuntap add tun9 mode tun",
        "address add 10.9.0.1/24 dev tun9",
        "link set tun9 up",
    ):
        here.run("ip", *line.split())
    before = here.run("ip", "-4", "-o", "address")
    for _ in range(2):
        with here.echo("tun9", "10.9.0.2/24") as echo:
            assert here.run("nc", "-N", "10.9.0.2", "7", stdin="hello\n") == "hello\n"
            echo.send_signal(signal.SIGINT)
            assert echo.wait(timeout=10) == 0
    assert here.has("tun9")
    assert here.run("ip", "-4", "-o", "address") == before
    assert "10.9.0.1" in before


def test_an_interface_that_is_down_is_said_to_be(here: Machine) -> None:
    here.run("ip", "tuntap", "add", "tun9", "mode", "tun")
    with here.popen(*TUNSMITH, "echo", "tun9", "10.9.0.2", "7") as echo:
        assert echo.stderr is not None
        assert (
            echo.stderr.readline()
            == "tunsmith: tun9 is down; packets come once it is up: `ip link set tun9 up`\n"
        )
        echo.kill()


def test_an_interface_in_use_is_125_and_one_line(here: Machine) -> None:
    with here.echo("tun0", STACK[4]), here.popen(*TUNSMITH, "echo", "tun0", "10.8.0.2", "7") as second:
        out, err = second.communicate(timeout=10)
        assert (second.returncode, out) == (125, "")
        assert err == (
            "tunsmith: cannot open the TUN interface tun0: another program uses it; "
            "end that, or choose another name\n"
        )


def test_an_interface_that_is_deleted_ends_it_with_125(here: Machine) -> None:
    with here.echo("tun0", STACK[4]) as echo:
        here.run("ip", "link", "delete", "tun0")
        _, err = echo.communicate(timeout=10)
        assert (echo.returncode, err) == (125, "tunsmith: tun0 is gone\n")


def test_an_address_of_the_machine_is_refused(here: Machine) -> None:
    here.run("ip", "address", "add", "10.7.0.2/32", "dev", "lo")
    with here.popen(*TUNSMITH, "echo", "tun0", "10.7.0.2", "7") as echo:
        out, err = echo.communicate(timeout=10)
        assert (echo.returncode, out) == (2, "")
        assert err == "tunsmith: 10.7.0.2 is an address of this machine; the stack needs one of its own\n"
