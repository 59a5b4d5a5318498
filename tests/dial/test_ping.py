"""Pings over the real loopback, by whichever kind of socket this machine allows us."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunsmith.dial.base import Dialer, PingReply, Pings
from tunsmith.dial.block import BlockDialer
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.url import make_dialer
from tunsmith.errors import DialError, DialProhibited, DialUnsupported

LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture(params=LOOPBACK, ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def pair(family: int) -> Iterator[tuple[Pings, Pings]]:
    try:
        pair = DirectDialer().open_pings(family), DirectDialer().open_pings(family)
    except DialError as error:
        pytest.skip(str(error))
    yield pair
    for pings in pair:
        pings.close()


def next_reply(pings: Pings) -> PingReply:
    while True:
        readable, _, _ = select.select([pings], [], [], 5.0)
        assert readable, "no reply"
        try:
            return pings.receive()
        except BlockingIOError:
            continue


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 30], ids=["empty", "odd", "fragmented"])
def test_reply_carries_sequence_and_data(pair: tuple[Pings, Pings], family: int, data: bytes) -> None:
    pings, _ = pair
    pings.send(LOOPBACK[family], 0xFFFE, data, 64)
    reply = next_reply(pings)
    assert reply == PingReply(LOOPBACK[family], 0xFFFE, data, reply.ttl)
    assert 0 < reply.ttl <= 255
    assert not list(pings.faults())


def test_each_socket_sees_its_own_replies_only(pair: tuple[Pings, Pings], family: int) -> None:
    for number, pings in enumerate(pair):
        pings.send(LOOPBACK[family], number, b"", 64)
    for number, pings in enumerate(pair):
        assert next_reply(pings).sequence == number
        with pytest.raises(BlockingIOError):
            pings.receive()


def test_ttl_may_change_from_echo_to_echo(pair: tuple[Pings, Pings], family: int) -> None:
    pings, _ = pair
    for ttl in (1, 255, 1):
        pings.send(LOOPBACK[family], ttl, b"", ttl)
        assert next_reply(pings).sequence == ttl


def test_close_is_idempotent(pair: tuple[Pings, Pings]) -> None:
    pair[0].close()
    pair[0].close()


def test_a_forbidden_ping_names_the_sysctl(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: int
) -> None:
    def forbid(*_: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tunsmith.dial.ping.socket.socket", forbid)
    monkeypatch.setenv("PATH", str(tmp_path))  # no ping(8) to do it instead
    with pytest.raises(DialProhibited, match=r"net\.ipv4\.ping_group_range") as caught:
        DirectDialer().open_pings(family)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "dialer",
    [BlockDialer(), make_dialer("socks5://127.0.0.1:1"), make_dialer("http://127.0.0.1:1")],
    ids=lambda dialer: dialer.label,
)
def test_proxies_carry_no_ping(dialer: Dialer, family: int) -> None:
    assert not dialer.carries_ping
    with pytest.raises(DialUnsupported):
        dialer.open_pings(family)
