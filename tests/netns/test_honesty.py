"""What a program is told about a destination is what it would be told without tunsmith."""

from __future__ import annotations

import re

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.topology import BLACK_HOLE, FILTERED, NO_HOST, NO_NETWORK, PROHIBITED, SERVER

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", [4, 6])
DESTINATIONS = {
    "open": (SERVER, ports.ECHO),
    "closed": (SERVER, ports.CLOSED),
    "filtered": (SERVER, FILTERED),
    "no host": (NO_HOST, 80),
    "no network": (NO_NETWORK, 80),
    "prohibited": (PROHIBITED, 80),
    "black hole": (BLACK_HOLE, 80),
}
ANSWERS = {
    "open": {"open"},
    "closed": {"ECONNREFUSED"},
    "filtered": {"timeout"},
    "no host": {"EHOSTUNREACH"},
    "no network": {"ENETUNREACH"},
    "prohibited": {"EHOSTUNREACH", "EACCES"},
    "black hole": {"timeout"},
}


@FAMILIES
@pytest.mark.parametrize("kind", DESTINATIONS)
def test_connect_gets_the_answer_it_would_get_without_us(caller: Caller, family: int, kind: str) -> None:
    addresses, port = DESTINATIONS[kind]
    # Linux may ignore an error that comes while it is still sending, and try again after a second.
    ask = ("connect", addresses[family], port, 0.5 if "timeout" in ANSWERS[kind] else 5)
    without = caller.plain_client(*ask)
    assert without in ANSWERS[kind]
    assert caller.client(*ask) == without


@FAMILIES
@pytest.mark.parametrize("kind", DESTINATIONS)
def test_datagram_gets_the_answer_it_would_get_without_us(caller: Caller, family: int, kind: str) -> None:
    addresses, port = DESTINATIONS[kind]
    ask = ("udp_ask", addresses[family], port, 0.5 if "timeout" in ANSWERS[kind] else 5)
    assert caller.client(*ask) == caller.plain_client(*ask)


@FAMILIES
def test_port_scan_sees_the_same_three_answers(caller: Caller, family: int) -> None:
    scan = [
        "nmap", "-sT", "-Pn", "-n", *(["-6"] if family == 6 else []), "--max-retries=1", "--initial-rtt-timeout=1s",
        f"-p{ports.ECHO},{ports.CLOSED},{FILTERED}", SERVER[family],
    ]  # fmt: skip
    states = re.compile(r"^(\d+)/tcp\s+(\S+)", re.MULTILINE)
    without = states.findall(caller.plain(*scan).stdout)
    assert without == [("7", "open"), ("9998", "closed"), ("9999", "filtered")]
    assert states.findall(caller.run(*scan).stdout) == without


def test_refusals_are_quick(caller: Caller) -> None:
    """A hundred of them take less than the patience for one that hangs."""
    script = (
        "import socket\n"
        "for _ in range(100):\n"
        "    with socket.socket() as sock:\n"
        "        sock.settimeout(1)\n"
        f"        print(sock.connect_ex(('{SERVER[4]}', {ports.CLOSED})))\n"
    )
    done = caller.run(CLIENT[0], "-c", script)
    assert done.stdout.split() == ["111"] * 100


def test_interface_is_left_by_when_asked_to(caller: Caller) -> None:
    by_default = caller.client("ask", SERVER[4], ports.WHO).split()[0]
    pinned = ["--interface", "c1"]
    assert by_default == "10.81.1.2"
    assert caller.client("ask", SERVER[4], ports.WHO, options=pinned).split()[0] == "10.81.3.2"
    assert caller.client("ask", SERVER[6], ports.WHO, options=pinned).split()[0] == "fd81:3::2"
    assert caller.client("udp_ask", SERVER[4], ports.WHO, options=pinned).split()[0] == "10.81.3.2"
    assert caller.client("udp_ask", SERVER[6], ports.WHO, options=pinned).split()[0] == "fd81:3::2"


def test_interface_that_is_not_there_is_a_wrong_option(caller: Caller) -> None:
    done = caller.run("true", options=["--interface", "nowhere"])
    assert done.returncode == 2
    assert done.stderr == "tunsmith: --interface nowhere: no such interface; this machine has lo, c0, c1\n"
