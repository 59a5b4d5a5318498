"""Each example runs, and says what its docstring promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def tun() -> None:
    """What examples with a network of their own need."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs root and /dev/net/tun")


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=30, check=False
    )
    errors = [
        line for line in done.stderr.splitlines() if not line.startswith("Executing ")
    ]  # a busy machine
    assert (done.returncode, errors) == (0, [])
    return done.stdout


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONDEVMODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _example(name: str, *arguments: str) -> str:
    return _run([sys.executable, "-B", str(EXAMPLES / name), *arguments])


def test_two_stacks_exchange_data() -> None:
    lines = _example("two_stacks.py").splitlines()
    assert "client: the server says '120000 bytes, thank you'" in lines
    assert {"client: closed, error 0", "server: closed, error 0"} <= set(lines)


def test_lossy_link_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first, again = (_example("lossy_link.py", "0.02", "7", str(tmp_path / "a.pcapng")) for _ in "12")
    assert first == again
    assert first.startswith("1000000 bytes in ")
    assert (tmp_path / "a.pcapng").read_bytes().startswith(b"\x0a\x0d\x0d\x0a")


def test_own_upstream_greets_instead_of_connecting() -> None:
    assert "b'hello from outside\\n'" in _example("own_upstream.py").splitlines()


def test_server_and_client() -> None:
    assert _example("server_and_client.py").splitlines() == [
        "WHO IS THERE?",
        "ESTABLISHED 14 bytes sent, 0 sent again",
        "and then: b''",
        "port 81: Connection refused",
        "ping: ok",
    ]


def test_names_for_any_answers_as_whoever_was_asked() -> None:
    lines = _example("names_for_any.py").splitlines()
    assert lines[:2] == ["10.7.0.2 says: example.com is 192.0.2.80", "10.7.0.2 says: example.org is no idea"]
    assert "203.0.113.9 says: example.com is 192.0.2.80" in lines


def test_service_over_a_bad_link_gets_it_all() -> None:
    assert _example("service_over_a_bad_link.py", "0.03", "5").startswith("all 300000 bytes arrived")


def test_link_over_websocket_carries_megabytes() -> None:
    assert _example("link_over_websocket.py") == "five megabytes went there and back: True\n"


def test_own_congestion_control_is_used() -> None:
    lines = _example("own_congestion_control.py").splitlines()
    assert len(lines) == 3
    assert lines == _example("own_congestion_control.py").splitlines()


@pytest.mark.netns
def test_echo_on_a_tun_gives_back_what_netcat_sends(tun: None, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3_000_000))
    clients = f"""\
echo hello | nc -N 192.0.2.7 7
nc -N 203.0.113.9 7 < {sent} | cmp - {sent} && echo same
nc -z 192.0.2.7 8 || echo refused
echo datagram | nc -u -W 1 198.51.100.1 7
"""
    output = _example("echo_on_a_tun.py", "sh", "-c", clients)
    assert output.splitlines() == ["hello", "same", "refused", "datagram"]


@pytest.mark.netns
def test_ping_responder_answers_every_second_ping(tun: None) -> None:
    clients = "ping -c 1 198.51.100.7; ping -c 1 198.51.100.8 || true"
    output = _example("ping_responder.py", "sh", "-c", clients)
    assert "64 bytes from 198.51.100.7: icmp_seq=1" in output
    assert "From 198.51.100.1 icmp_seq=1 Destination Host Unreachable" in output


@pytest.mark.netns
@pytest.mark.parametrize("name", ["echo_on_a_tun.py", "ping_responder.py"])
def test_examples_leave_the_network_they_are_started_in_alone(tun: None, name: str) -> None:
    look = ["sh", "-c", "ip -o link; ip address; ip route; readlink /proc/self/ns/net"]
    before = _run(look)
    inside = _example(name, *look)
    assert "tun0" in inside
    assert before.splitlines()[-1] not in inside
    assert _run(look) == before


def test_every_example_is_short_and_tested_here() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests
        assert len(example.read_text().splitlines()) <= 80, example.name
