"""This machine's own network changes: what cannot go on ends at once, and what can goes on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from tests.engine.bench import Bench
from tests.inside import Port, until
from tunsmith.dial.base import Stream
from tunsmith.flow import Target
from tunsmith.relay.uplink import is_stranded, question
from tunsmith.stack.events import Established

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def connected(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A connection from an address that may be said to have gone."""
    family = socket.AF_INET if request.param == 4 else socket.AF_INET6
    with socket.create_server((LOOPBACK[request.param], 0), family=family) as server:
        near = socket.create_connection(server.getsockname()[:2])
        far, _ = server.accept()
        with near, far:
            yield near


def test_a_socket_whose_address_has_gone_is_stranded() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        assert not is_stranded(sock.fileno(), {"::1"}, None)
        assert is_stranded(sock.fileno(), {"192.0.2.1"}, None)


def test_a_socket_that_is_bound_to_no_address_goes_anywhere() -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(("", 0))
            assert not is_stranded(sock.fileno(), set(), None)


def test_loopback_never_goes() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert not is_stranded(sock.fileno(), {"192.0.2.1"}, None)


def test_a_socket_that_is_pinned_to_another_interface_is_stranded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        assert not is_stranded(sock.fileno(), set(), "lo")
        assert is_stranded(sock.fileno(), set(), "eth9")
        assert is_stranded(sock.fileno(), set(), None)


def test_the_question_is_the_kernels_keep_alive(connected: socket.socket) -> None:
    question([connected])
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4000


async def test_connections_from_an_address_that_has_gone_are_reset(
    bench: Bench, connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = bench.inside.connect(source_port=50000)
    await until(lambda: Established(there) in bench.inside.events)

    async def real(target: Target) -> Stream:
        connected.setblocking(False)
        return Stream(connected.dup())

    monkeypatch.setattr(bench.upstream, "open_stream", real)
    gone = bench.inside.connect(source_port=50001)
    await until(lambda: Established(gone) in bench.inside.events)
    here = connected.getsockname()[0]
    assert bench.engine.on_network_changed({here}) == 0
    if here == "::1":
        assert bench.engine.on_network_changed({"192.0.2.1"}) == 1
        assert await until(lambda: bench.inside.closed(gone)) == [errno.ECONNRESET]
        assert bench.notes.outcomes == ["network changed"]
    assert not bench.inside.closed(there)


async def test_a_connection_that_was_being_made_is_made_anew_by_the_new_way(bench: Bench) -> None:
    bench.upstream.silent = True
    connection = bench.inside.connect()
    await until(lambda: bench.engine.dials.waiting)
    bench.upstream.silent = False
    bench.engine.on_network_changed(set())
    await until(lambda: bench.upstream.given_up)
    await until(lambda: Established(connection) in bench.inside.events)
    assert bench.notes.outcomes == ["network changed"]


async def test_datagram_flows_on_a_port_that_is_lost_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as far,
    ):
        near.bind(("::1", 0))
        port = Port(near, far)

        async def real(family: int) -> Port:
            return port

        monkeypatch.setattr(bench.upstream, "open_datagrams", real)
        bench.inside.send_datagram(b"?", 1000)
        bench.inside.send_datagram(b"?", 1001)
        await until(lambda: len(port.sent) == 2)
        assert bench.engine.on_network_changed({"::1"}) == 0
        assert bench.engine.on_network_changed({"192.0.2.1"}) == 2
        assert port.closed
        assert bench.notes.outcomes == ["network changed", "network changed"]


async def test_after_a_suspend_every_connection_is_questioned_for_a_moment(
    bench: Bench, connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def real(target: Target) -> Stream:
        connected.setblocking(False)
        return Stream(connected.dup())

    monkeypatch.setattr(bench.upstream, "open_stream", real)
    monkeypatch.setattr("tunsmith.relay.uplink.QUESTIONED", 0.01)
    connection = bench.inside.connect()
    await until(lambda: Established(connection) in bench.inside.events)

    def questioned() -> int:
        return connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    bench.engine.on_resumed()
    assert questioned()
    await until(lambda: not questioned())
