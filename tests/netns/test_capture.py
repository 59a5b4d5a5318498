"""`--capture`: what was said, in a file that other programs read, names included."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.netns import ports
from tests.netns.caller import Caller
from tests.netns.servers import eventually
from tests.netns.topology import SERVER
from tests.pcapng_reader import Recording, read
from tunsmith.config import Network

pytestmark = pytest.mark.netns
GATEWAY = Network().gateway
PROXY = f"socks5://{SERVER[4]}:{ports.SOCKS}"


@pytest.fixture
def file(caller: Caller) -> Path:
    caller.captures = False
    return caller.home / "flows.pcapng"


def recorded(path: Path) -> Recording:
    return read(path.read_bytes())


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
def test_tcpdump_reads_both_directions_with_good_checksums(caller: Caller, file: Path) -> None:
    assert caller.run("curl", "-sS", f"http://{SERVER[4]}/", options=["--capture", str(file)]).returncode == 0
    shown = subprocess.run(
        ["tcpdump", "-nnvAr", str(file), "tcp"], capture_output=True, text=True, check=True
    ).stdout
    inside = Network().inside
    assert f"> {SERVER[4]}.80: Flags [S]" in shown
    assert f"{SERVER[4]}.80 > {inside}." in shown
    assert "hello from S" in shown
    assert "incorrect" not in shown


def test_directly_names_are_those_of_the_answers_each_told_once(caller: Caller, file: Path) -> None:
    script = "curl -sS http://www.example.test/; curl -sS http://www.example.test/"
    done = caller.run("sh", "-c", script, options=["--capture", str(file)])
    assert done.stdout == "hello from S\n" * 2
    assert recorded(file).names == [(bytes(map(int, SERVER[4].split("."))), "www.example.test")]


def test_through_a_proxy_names_are_those_behind_fake_addresses(caller: Caller, file: Path) -> None:
    options = ["--capture", str(file), "--via", PROXY]
    assert caller.run("curl", "-4sS", "http://www.example.test/", options=options).stdout == "hello from S\n"
    (address, name), *_ = recorded(file).names
    assert name == "www.example.test"
    assert any(packet.data[16:20] == address for packet in recorded(file).packets)


def test_packets_can_be_seen_while_the_program_runs(caller: Caller, file: Path) -> None:
    with caller.running(
        "sh", "-c", f"curl -sS http://{SERVER[4]}/; read end", options=["--capture", str(file)]
    ):
        eventually(
            lambda: file.exists() and b"hello from S" in file.read_bytes(), "the answer in the capture"
        )


def test_flows_are_told_with_the_name_that_was_looked_up(caller: Caller) -> None:
    done = caller.run("curl", "-4sS", "http://www.example.test/", options=["-v"])
    assert f"  {SERVER[4]}:80 (www.example.test) direct: closed\n" in done.stderr
    assert f"  {GATEWAY}:53 (A www.example.test): answered\n" in done.stderr
    done = caller.run("curl", "-4sS", "http://www.example.test/", options=["-v", "--via", PROXY])
    assert f"  www.example.test:80 via {PROXY}: closed\n" in done.stderr
