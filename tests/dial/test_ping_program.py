"""Pings by ping(8): what it prints, said by a script in its place."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from pathlib import Path

import pytest

from tunsmith.dial.base import PingFault, PingReply
from tunsmith.dial.ping_program import AT_ONCE, ProgramPings, privileged_ping
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4, IPV6


def program(directory: Path, body: str) -> str:
    path = directory / "ping"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def ended(pings: ProgramPings) -> PingReply | None:
    """The reply of the only run, once it has ended."""
    deadline = time.monotonic() + 5
    while pings._runs and time.monotonic() < deadline:
        select.select([pings], [], [], 5)
        try:
            return pings.receive()
        except BlockingIOError:
            continue
    return None


def saying(directory: Path, text: str, family: int = socket.AF_INET) -> ProgramPings:
    return ProgramPings(program(directory, f"cat <<'end'\n{text}\nend"), family, None)


@pytest.mark.parametrize(
    ("line", "peer", "ttl"),
    [
        ("64 bytes from 192.0.2.1: icmp_seq=1 ttl=57 time=11.7 ms", "192.0.2.1", 57),
        ("8 bytes from 192.0.2.9: icmp_seq=1 ttl=1 (DUP!)", "192.0.2.9", 1),
        ("64 bytes from 2001:db8::1: icmp_seq=1 ttl=255 time=0.1 ms", "2001:db8::1", 255),
        ("64 bytes from fe80::1%eth0: icmp_seq=1 ttl=64 time=0.1 ms", "fe80::1", 64),
    ],
)
def test_a_reply_is_whose_it_says_with_our_sequence_and_data(
    tmp_path: Path, line: str, peer: str, ttl: int
) -> None:
    pings = saying(tmp_path, f"PING 192.0.2.1 (192.0.2.1) 4(32) bytes of data.\n{line}")
    pings.send("192.0.2.1", 7, b"data", 64)
    assert ended(pings) == PingReply(peer, 7, b"data", ttl)
    assert not list(pings.faults())
    pings.close()


@pytest.mark.parametrize(
    ("line", "offender", "error", "mtu"),
    [
        ("From 192.0.2.9 icmp_seq=1 Destination Net Unreachable", "192.0.2.9", IcmpError.NETWORK, 0),
        ("From 192.0.2.9 icmp_seq=1 Destination Host Unreachable", "192.0.2.9", IcmpError.HOST, 0),
        ("From 192.0.2.9 icmp_seq=1 Packet filtered", "192.0.2.9", IcmpError.PROHIBITED, 0),
        ("From 192.0.2.9 icmp_seq=1 Time to live exceeded", "192.0.2.9", IcmpError.TIME_EXCEEDED, 0),
        (
            "From 192.0.2.9 icmp_seq=1 Frag needed and DF set (mtu = 1400)",
            "192.0.2.9",
            IcmpError.TOO_BIG,
            1400,
        ),
        ("ping: connect: Network is unreachable", "", IcmpError.NETWORK, 0),
        ("ping: sendmsg: Operation not permitted", "", IcmpError.PROHIBITED, 0),
    ],
)
def test_a_line_about_an_error_is_that_error(
    tmp_path: Path, line: str, offender: str, error: IcmpError, mtu: int
) -> None:
    pings = saying(tmp_path, line)
    pings.send("192.0.2.1", 7, b"data", 64)
    assert ended(pings) is None
    assert list(pings.faults()) == [PingFault("192.0.2.1", 7, offender, *error.code(IPV4), mtu, b"data")]
    pings.close()


@pytest.mark.parametrize(
    ("text", "error", "mtu"),
    [
        ("Destination unreachable: No route", IcmpError.NETWORK, 0),
        ("Destination unreachable: Address unreachable", IcmpError.HOST, 0),
        ("Destination unreachable: Administratively prohibited", IcmpError.PROHIBITED, 0),
        ("Time exceeded: Hop limit", IcmpError.TIME_EXCEEDED, 0),
        ("Packet too big: mtu=1280", IcmpError.TOO_BIG, 1280),
    ],
)
def test_the_same_for_ipv6(tmp_path: Path, text: str, error: IcmpError, mtu: int) -> None:
    pings = saying(tmp_path, f"From 2001:db8::9 icmp_seq=1 {text}", socket.AF_INET6)
    pings.send("2001:db8::1", 7, b"", 64)
    assert ended(pings) is None
    (fault,) = pings.faults()
    assert (fault.icmp_type, fault.icmp_code) == error.code(IPV6)
    assert (fault.offender, fault.mtu) == ("2001:db8::9", mtu)
    pings.close()


def test_silence_and_nonsense_are_silence(tmp_path: Path) -> None:
    for text in ("", "1 packets transmitted, 0 received, 100% packet loss, time 0ms", "\x80\xff"):
        pings = saying(tmp_path, text)
        pings.send("192.0.2.1", 7, b"", 64)
        assert ended(pings) is None
        assert not list(pings.faults())
        pings.close()


def test_the_program_is_asked_for_one_echo_like_ours(tmp_path: Path) -> None:
    said = tmp_path / "said"
    pings = ProgramPings(program(tmp_path, f'printf "%s " "$@" > {said}'), socket.AF_INET, None)
    pings.send("192.0.2.1", 7, b"12345", 3)
    assert ended(pings) is None
    assert said.read_text() == "-n -c1 -W10 -s 5 -t 3 192.0.2.1 "
    pings.close()


def test_runs_are_bounded_and_closing_ends_them(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    pings = ProgramPings(program(tmp_path, "exec sleep 100"), socket.AF_INET, None)
    for _ in range(AT_ONCE):
        pings.send("192.0.2.1", 7, b"", 64)
    processes = [run.process for run in pings._runs.values()]
    with pytest.raises(BlockingIOError):
        pings.send("192.0.2.1", 7, b"", 64)
    pings.close()
    pings.close()
    assert all(process.returncode == -9 for process in processes)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("says", "mode", "found"),
    [("ping from iputils 20221126", 0o4755, True), ("ping from iputils", 0o755, False), ("x", 0o4755, False)],
    ids=["setuid iputils", "without privilege", "another ping"],
)
def test_only_a_privileged_ping_of_iputils_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, mode: int, found: bool
) -> None:
    path = program(tmp_path, f"echo {says}")
    os.chmod(path, mode)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (privileged_ping() == path) == found


def test_no_ping_at_all_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert privileged_ping() is None


def test_a_program_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    pings = ProgramPings(str(tmp_path / "none"), socket.AF_INET, None)
    with pytest.raises(OSError, match="No such file") as caught:
        pings.send("192.0.2.1", 7, b"", 64)
    assert caught.value.errno == errno.ENOENT
    pings.close()
