"""An event loop whose network is a stack, for programs that ask the loop themselves and cannot be told better.

    async def main() -> None:
        async with tunsmith.Stack(device, ["10.7.0.2/24"]) as stack:
            with instead_of_sockets(stack):
                await uvicorn.Server(uvicorn.Config(app, host="10.7.0.2", port=80)).serve()

    with asyncio.Runner(loop_factory=StackEventLoop) as runner:
        runner.run(main())

Connections, servers and datagram endpoints that are asked for by host and port go to the stack; what comes as a
socket, a pipe or a Unix path is the kernel's as ever. Options about sockets (reuse_address, happy eyeballs, …) mean
nothing here and are ignored.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunsmith.aio.address import pack, socket_address

if TYPE_CHECKING:
    from tunsmith.aio.stack import Stack


class StackEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop; while `stack` is set, that is its network."""

    stack: Stack | None = None

    async def create_connection(  # type: ignore[override]  # all that the loop takes, and more ways to call it
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        if self.stack is None or host is None or port is None or options.get("sock") is not None:
            return await super().create_connection(protocol_factory, host, port, **options)  # type: ignore[arg-type]
        return await self.stack.create_connection(
            protocol_factory,
            host,
            int(port),
            local=options.get("local_addr"),
            ssl=options.get("ssl"),
            server_hostname=options.get("server_hostname"),
        )

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: int | None = None,
        *,
        backlog: int = 128,
        **options: Any,
    ) -> asyncio.AbstractServer:
        if self.stack is None or options.get("sock") is not None:
            return await super().create_server(protocol_factory, host, port, backlog=backlog, **options)
        return await self.stack.create_server(
            protocol_factory,
            host,
            port or 0,
            backlog=backlog,
            ssl=options.get("ssl"),
            start_serving=options.get("start_serving", True),
        )

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: Any = None,
        remote_addr: Any = None,
        **options: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        if self.stack is None or options.get("sock") is not None:
            return await super().create_datagram_endpoint(
                protocol_factory, local_addr, remote_addr, **options
            )
        return await self.stack.create_datagram_endpoint(protocol_factory, local_addr, remote_addr)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        """IP literals only while there is a stack: a name would be asked of this machine's network."""
        if self.stack is None or host is None:
            return await super().getaddrinfo(host, port, **options)
        address = pack(host)
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        return [
            (
                family,
                options.get("type") or socket.SOCK_STREAM,
                0,
                "",
                socket_address(address, int(port or 0)),
            )
        ]


@contextmanager
def instead_of_sockets(stack: Stack) -> Iterator[None]:
    """Within, `stack` is the network of the running loop, which must be a StackEventLoop (RuntimeError)."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, StackEventLoop):
        raise RuntimeError(
            f"{type(loop).__name__} has only sockets; run with asyncio.Runner(loop_factory=StackEventLoop)"
        )
    before, loop.stack = loop.stack, stack
    try:
        yield
    finally:
        loop.stack = before
