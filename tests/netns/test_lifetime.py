"""How it begins and ends: exit codes, signals, kills, children left behind, machines that lack something."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.servers import Peers, end_process
from tests.netns.topology import BLACK_HOLE, SERVER

pytestmark = pytest.mark.netns

STOP = 6.0
"""Seconds in which it ends, whatever goes on. On a machine that does nothing else two are enough."""


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_exit_code_is_that_of_the_program(caller: Caller, script: str, code: int) -> None:
    done = caller.run("sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")


def test_exit_codes_of_programs_that_cannot_be_started(caller: Caller) -> None:
    assert caller.run("no-such-program").returncode == 127
    assert caller.run("/etc/passwd").returncode == 126


def test_upstream_that_is_no_url_is_a_wrong_option(caller: Caller) -> None:
    for url in ("gopher://a:1", "socks5://a:99999", "http://"):
        done = caller.run("echo", "started", options=["--via", url])
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), url


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of tunsmith, which is about to end."""
    return process.wait(STOP)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_program_with_its_flows_open(caller: Caller, number: int) -> None:
    with caller.running(*CLIENT, "hold", SERVER[4], str(ports.FLOOD), "5") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert ended(process) == 128 + number


def test_program_that_ends_leaves_nobody_waiting(caller: Caller) -> None:
    """Not for a server that does not read, nor for hosts that do not answer."""
    script = (
        "import socket\n"
        f"sock = socket.create_connection(('{SERVER[4]}', {ports.DEAF}))\n"
        "sock.setblocking(False)\n"
        "try:\n"
        "    while sock.send(bytes(65536)): pass\n"
        "except BlockingIOError: pass\n"
        "other = socket.socket()\n"
        "other.setblocking(False)\n"
        f"other.connect_ex(('{BLACK_HOLE[4]}', 80))\n"
        "print('ready', flush=True)\n"
    )
    with caller.running(sys.executable, "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert ended(process) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_background_child_does_not_keep_it_alive(caller: Caller, peers: Peers) -> None:
    """Not even one with a connection open; that one is reset, for its network is gone."""
    client = " ".join([*CLIENT, "hold", SERVER[4], str(ports.DIGEST), "1"])
    child = f"exec 3<&0; ({client} <&3 & echo $! >&2) | {{ read line; echo $line; }}; exit 3"
    with caller.running("sh", "-c", child) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        background = int(process.stderr.readline())
        assert process.stdout.readline() == '["open"]\n'
        try:
            assert ended(process) == 3
            assert peers.next("digest")["end"] == "reset"
        finally:
            end_process(background)


def test_killed_by_force_it_leaves_a_program_without_network(caller: Caller, peers: Peers) -> None:
    script = (
        "import os, socket, sys\n"
        "def links(): return sorted(name for _, name in socket.if_nameindex())\n"
        "print(os.getpid(), links(), flush=True)\n"
        f"sock = socket.create_connection(('{SERVER[4]}', {ports.DIGEST}))\n"
        "sock.sendall(b'x')\n"
        "print('connected', flush=True)\n"
        "while 'tun0' in links(): pass\n"
        f"print(socket.socket().connect_ex(('{SERVER[4]}', {ports.ECHO})), flush=True)\n"
    )
    with caller.running(sys.executable, "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(" ['lo', 'tun0']\n")
        assert process.stdout.readline() == "connected\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
        # The program has the pipe as well and lives on, for as long as it likes.
        assert process.stdout.readline() == "101\n"
    # The upstream connection went with us.
    peers.next("digest")


@pytest.mark.parametrize("command", ["ip link delete tun0", "ip link set tun0 down"])
def test_program_may_take_away_its_own_network(caller: Caller, command: str) -> None:
    """As root inside, which the caller's root is."""
    caller.user = 0
    done = caller.run("sh", "-c", f"curl -sS http://{SERVER[4]}/; {command}; exit 5")
    assert (done.returncode, done.stdout) == (5, "hello from S\n")
    assert all(line.startswith("tunsmith: the TUN device is gone") for line in done.stderr.splitlines()), done


def test_network_that_comes_back_works_again(caller: Caller) -> None:
    caller.user = 0
    script = (
        f"curl -sS http://{SERVER[4]}/; ip link set tun0 down; ip link set tun0 up;"
        f"ip route add default dev tun0; curl -sS http://{SERVER[4]}/"
    )
    done = caller.run("sh", "-c", script)
    assert (done.stdout, done.stderr) == ("hello from S\n" * 2, "")


def test_no_tun_device(caller: Caller) -> None:
    caller.extra = "rm /dev/net/tun"
    done = caller.run("true")
    assert done.returncode == 125
    [line] = done.stderr.splitlines()
    assert "/dev/net/tun" in line


def test_two_at_once_do_not_meet(caller: Caller) -> None:
    with caller.running(*CLIENT, "hold", SERVER[4], str(ports.ECHO), "1") as one:
        assert one.stdout is not None
        assert one.stdin is not None
        assert one.stdout.readline() == '["open"]\n'
        assert caller.run("curl", "-sS", f"http://{SERVER[4]}/").stdout == "hello from S\n"
        one.stdin.write("end\n")
        one.stdin.close()
        assert one.wait() == 0
