"""A connection to a proxy, before it is the flow's."""

from __future__ import annotations

import socket
import struct

import pytest

from tunsmith.dial.conversation import Conversation
from tunsmith.errors import ProxyError


async def test_proxy_that_has_reset_the_connection_has_no_address_and_is_to_blame() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with Conversation(near, "socks5://proxy") as talk:
        assert talk.proxy_address == "127.0.0.1"
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        with pytest.raises(ProxyError, match="socks5://proxy: the proxy hung up"):
            _ = talk.proxy_address
