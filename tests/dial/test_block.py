"""The upstream that refuses."""

from __future__ import annotations

import socket

import pytest

from tunsmith.dial.block import BlockDialer
from tunsmith.errors import DialRefused, DialUnsupported
from tunsmith.flow import Target


async def test_everything_is_refused() -> None:
    dialer = BlockDialer()
    await dialer.start()
    with pytest.raises(DialRefused):
        await dialer.open_stream(Target("192.0.2.1", 80))
    with pytest.raises(DialUnsupported):
        await dialer.open_datagrams(socket.AF_INET)
    assert not dialer.carries_udp
    assert not dialer.carries_ping
    dialer.close()
