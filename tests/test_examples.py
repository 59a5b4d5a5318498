"""Each example runs, and says what its docstring promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

BESIDE = """\
{python} -B examples/{name} & example=$!
until ip route show default | grep -q tun0; do kill -0 $example; sleep 0.05; done
{clients}
kill $example; wait || true
"""
"""A shell script that runs a client beside an example, in a network of their own."""


@pytest.fixture
def own_network() -> list[str]:
    """The command that makes a user and a network namespace."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare(1)")
    return ["unshare", "--map-root-user", "--net"]


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
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


def _beside(own_network: list[str], name: str, clients: str) -> str:
    script = "set -e\n" + BESIDE.format(python=sys.executable, name=name, clients=clients)
    return _run([*own_network, "sh", "-c", script])


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


@pytest.mark.netns
def test_echo_on_a_tun_gives_back_what_netcat_sends(own_network: list[str], tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3_000_000))
    clients = f"""\
echo hello | nc -N 192.0.2.7 7
nc -N 203.0.113.9 7 < {sent} | cmp - {sent} && echo same
nc -z 192.0.2.7 8 || echo refused
"""
    assert _beside(own_network, "echo_on_a_tun.py", clients).splitlines() == ["hello", "same", "refused"]


@pytest.mark.netns
def test_ping_responder_answers_every_second_ping(own_network: list[str]) -> None:
    clients = "ping -c 1 198.51.100.7; ping -c 1 198.51.100.8 || true"
    output = _beside(own_network, "ping_responder.py", clients)
    assert "64 bytes from 198.51.100.7: icmp_seq=1" in output
    assert "From 198.51.100.1 icmp_seq=1 Destination Host Unreachable" in output
    assert "not answered:" in output


def test_every_example_is_short_and_tested_here() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests
        assert len(example.read_text().splitlines()) <= 80, example.name
