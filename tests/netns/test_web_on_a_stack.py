"""An HTTP server of others, unmodified, on a stack behind a TUN: curl finds it, the kernel has no socket of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.machine import environment
from tests.netns.topology import Namespace

pytestmark = pytest.mark.netns
PROGRAM = Path(__file__).with_name("web_on_a_stack.py")
URL = {4: "http://10.7.0.2", 6: "http://[fd07::2]"}


@pytest.fixture(scope="module")
def machine() -> Iterator[Namespace]:
    """A machine with a TUN, and the server behind it."""
    fresh = Namespace()
    for line in (
        "link set lo up",
        "tuntap add tun0 mode tun",
        "address add 10.7.0.1/24 dev tun0",
        "address add fd07::1/64 dev tun0 nodad",
        "link set tun0 up",
    ):
        fresh.run("ip", *line.split())
    command = fresh.command([sys.executable, "-B", str(PROGRAM), "tun0", "10.7.0.2/24", "fd07::2/64"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield fresh
        finally:
            server.kill()
            fresh.close()


@pytest.mark.parametrize("family", [4, 6])
def test_curl_is_answered_and_no_socket_listens(machine: Namespace, family: int) -> None:
    client = {4: "10.7.0.1", 6: "fd07::1"}[family]
    assert machine.run("curl", "-s", URL[family]) == f"hello {client}\n"
    assert machine.run("ss", "-Htln") == machine.run("ss", "-Huln") == ""


@pytest.mark.parametrize("family", [4, 6])
def test_megabytes_go_there_and_back(machine: Namespace, family: int, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(20_000_000))
    machine.run("curl", "-s", "-o", str(back), "--data-binary", f"@{sent}", f"{URL[family]}/echo")
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(sent.read_bytes()).digest()


def test_many_clients_at_once(machine: Namespace) -> None:
    urls = [f"{URL[4]}/?{number}" for number in range(50)]
    output = machine.run("curl", "-s", "--parallel", "--parallel-max", "50", "--no-keepalive", *urls)
    assert output == "hello 10.7.0.1\n" * 50
