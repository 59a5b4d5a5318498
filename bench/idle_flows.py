"""Both ends of many TCP flows on which nothing is said. Runs by itself, on the standard library alone.

    python idle_flows.py hold ADDRESS PORT           accept and keep whatever comes
    python idle_flows.py open ADDRESS PORT NUMBER    open that many, say "open", keep them

Both stay until they are ended.
"""

from __future__ import annotations

import signal
import socket
import sys


def main(role: str, address: str, port: str, number: str = "0") -> None:
    there = (address, int(port))
    if role == "hold":
        with socket.create_server(there, backlog=4096) as server:
            held = []
            while True:
                held.append(server.accept())
    flows = [socket.create_connection(there, timeout=10) for _ in range(int(number))]
    print("open", flush=True)
    signal.pause()
    del flows


if __name__ == "__main__":
    main(*sys.argv[1:])
