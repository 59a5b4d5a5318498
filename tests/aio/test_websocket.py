"""Two stacks in two processes, with a WebSocket between them: the object link as people use it."""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path

import aiohttp
import pytest

import tunsmith

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "link_over_websocket.py"
SERVER = f"""
import asyncio, runpy
from aiohttp import web
example = runpy.run_path({str(EXAMPLE)!r})

async def main():
    runner = web.ServerRunner(web.Server(example["serve"]))
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_two_processes_with_a_websocket_between_them() -> None:
    """And when the wire goes, so does the network."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-B",
        "-c",
        SERVER,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert server.stdout is not None
    try:
        port = int(await server.stdout.readline())
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://localhost:{port}") as socket,
        ):
            link = runpy.run_path(str(EXAMPLE))["WebSocketLink"](socket)
            running = asyncio.create_task(link.run())
            async with tunsmith.Stack(link.device, ["10.7.0.2/24"]) as stack:
                reader, writer = await stack.open_connection("10.7.0.1", 7)
                writer.write(b"said by another process")
                writer.write_eof()
                assert await reader.read() == b"SAID BY ANOTHER PROCESS"
                writer.close()
                reader, _ = await stack.open_connection("10.7.0.1", 7)
                server.kill()
                await stack.until_gone()
                with pytest.raises(OSError, match="the other end is gone"):
                    await reader.read()
            await running
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
