"""Descriptors whose errors do not end them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from tests.dial.scripted import udp_socket
from tunsmith.dial.udp import IP_RECVERR
from tunsmith.relay.watch import watch_again


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_data_behind_an_error_still_arrives(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = new_loop()
    got = loop.create_future()
    with udp_socket() as sock, udp_socket() as other:
        closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
        closed.close()
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

        def on_readable() -> None:
            try:
                got.set_result(sock.recv(100))
            except ConnectionRefusedError:
                sock.recv(100, socket.MSG_ERRQUEUE)
                watch_again(loop, sock.fileno(), on_readable)
                other.sendto(b"later", sock.getsockname())

        loop.add_reader(sock.fileno(), on_readable)
        sock.sendto(b"x", nobody)
        assert loop.run_until_complete(asyncio.wait_for(got, 5)) == b"later"
        loop.remove_reader(sock.fileno())
    loop.close()
