"""Packets of ours that come back are known by the socket that sent them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tunsmith.dial.escape import Escape
from tunsmith.dial.ping import DirectPings
from tunsmith.dial.tcp import Connector
from tunsmith.dial.udp import open_udp
from tunsmith.dial.underway import MANY, Underway
from tunsmith.errors import DialError, DialProhibited
from tunsmith.flow import Target


@pytest.fixture
def silent() -> Iterator[Target]:
    """A TCP port whose backlog is full, so that nobody answers there."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        with socket.socket() as second:
            second.setblocking(False)
            with suppress(BlockingIOError):
                second.connect(server.getsockname())
            yield Target(*server.getsockname())


async def test_connection_that_is_being_made_is_known_by_both_its_ends(silent: Target) -> None:
    underway = Underway()
    attempt = asyncio.ensure_future(Connector(Escape(underway=underway)).connect(silent))
    await asyncio.sleep(0)
    source = _source_towards(silent)
    assert underway.has_stream(source, silent)
    assert not underway.has_stream(Target(source.host, source.port ^ 1), silent)
    assert not underway.has_stream(source, Target(silent.host, silent.port ^ 1))
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    assert not underway.has_stream(source, silent)


async def test_connection_that_is_made_is_none_of_them() -> None:
    underway = Underway()
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target(*server.getsockname())
        with await Connector(Escape(underway=underway)).connect(target) as sock:
            assert not underway.has_stream(Target(*sock.getsockname()), target)


async def test_dial_that_failed_is_none_of_them() -> None:
    underway = Underway()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target(*unused.getsockname())
        with pytest.raises(DialError):
            await Connector(Escape(underway=underway)).connect(target)
    assert not underway.has_stream(Target("", 0), target)


def test_connections_that_ended_without_a_word_make_room() -> None:
    underway = Underway()
    ended, waits = socket.socket(), socket.socket()
    waits.bind(("127.0.0.1", 0))
    source = Target(*waits.getsockname())
    underway.connecting(waits, Target("192.0.2.1", 1))
    for port in range(MANY):
        underway.connecting(ended, Target("192.0.2.2", port))
    ended.close()
    assert underway.has_stream(source, Target("192.0.2.1", 1))
    underway.connecting(waits, Target("192.0.2.1", 2))
    assert len(underway) == 2
    waits.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_udp_port_is_known_until_it_is_closed(family: int) -> None:
    underway = Underway()
    sock = open_udp(family, Escape(underway=underway))
    port = sock.getsockname()[1]
    assert underway.has_port(port)
    assert not underway.has_port(port ^ 1)
    sock.close()
    assert not underway.has_port(port)


def test_ping_identifier_is_known_until_it_is_closed() -> None:
    underway = Underway()
    try:
        pings = DirectPings(socket.AF_INET, Escape(underway=underway))
    except DialProhibited:
        pytest.skip("this machine allows no pings")
    known = [identifier for identifier in range(1 << 16) if underway.has_identifier(identifier)]
    assert len(known) == 1
    pings.close()
    assert not underway.has_identifier(known[0])


def _source_towards(target: Target) -> Target:
    """Where the one connection of this process that waits for `target` comes from."""
    from pathlib import Path

    wanted = f"0100007F:{target.port:04X} 02"
    ports = [
        int(line.split()[1].split(":")[1], 16)
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if wanted in line
    ]
    return Target("127.0.0.1", ports[-1])
