"""A sandbox as `tunsmith run` uses it, without an engine: nobody answers on the TUN.

Run as a program by the tests: `launch.py [--unreleased] CMD [ARG]...`; exits as CMD does, 125 with a line
on standard error when there can be no sandbox. `--unreleased` never lets CMD go.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tunsmith.config import Network
from tunsmith.errors import HostError
from tunsmith.host.sandbox import Sandbox
from tunsmith.host.signals import SignalRelay

RESOLV_CONF = "nameserver 198.18.0.2\n"


async def serve(sandbox: Sandbox) -> int:
    interrupted = asyncio.Event()
    relay = SignalRelay(sandbox, asyncio.get_running_loop(), lambda number: interrupted.set())
    try:
        sandbox.release()
        return await sandbox.wait()
    finally:
        relay.close()


def main(arguments: list[str]) -> int:
    unreleased = arguments[0] == "--unreleased"
    try:
        sandbox = Sandbox.spawn(arguments[unreleased:], Network(), RESOLV_CONF)
    except HostError as error:
        print(error, file=sys.stderr)
        return 125
    try:
        sandbox.ready()
        if unreleased:
            print(sandbox.pid, flush=True)
            signal.pause()
        return asyncio.run(serve(sandbox))
    except HostError as error:
        print(error, file=sys.stderr)
        return 125
    finally:
        sandbox.close()
        if sandbox.tun_fd >= 0:
            os.close(sandbox.tun_fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
