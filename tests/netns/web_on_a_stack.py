"""An HTTP server of aiohttp's on a stack of ours behind a TUN: `web_on_a_stack.py INTERFACE ADDRESS...`, port 80."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

import tunsmith


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.remote}\n")


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


async def main(interface: str, *addresses: str) -> None:
    application = web.Application()
    application.add_routes([web.get("/", hello), web.post("/echo", echo)])
    runner = web.AppRunner(application)
    await runner.setup()
    assert runner.server is not None
    async with tunsmith.Stack(tunsmith.open_tun(interface), addresses) as stack:
        await stack.create_server(runner.server, None, 80)
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
