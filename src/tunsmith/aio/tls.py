"""TLS over a transport of ours: the standard library's, between the transport and the protocol.

The event loop does the same for sockets, with the same class; `loop.start_tls` would lose what a client says
together with the end of its handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

Context = ssl.SSLContext | bool | None


def client_context(wanted: ssl.SSLContext | bool) -> ssl.SSLContext:
    """The context that a client asks for; True: the default one, which checks certificates."""
    return ssl.create_default_context() if isinstance(wanted, bool) else wanted


def secured(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    loop: asyncio.AbstractEventLoop,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None = None,
    waiter: asyncio.Future[None] | None = None,
) -> Callable[[], SSLProtocol]:
    """A factory of protocols that speak TLS to the transport, and to a protocol of `protocol_factory` when the
    handshake is done. `waiter` hears of that, or why it failed."""

    def factory() -> SSLProtocol:
        return SSLProtocol(
            loop,
            protocol_factory(),
            context,
            waiter,  # type: ignore[arg-type]  # typeshed does not know that a server has none
            server_side,
            server_hostname,
        )

    return factory
