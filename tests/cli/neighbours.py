"""Servers on 192.0.2.1 for as long as a command runs: `neighbours.py CMD [ARG]...`, exits as CMD does.

Port 80 serves HTTP. Port 1080 is a proxy that never answers; at its first caller it sends SIGTERM to CMD,
so that a test can interrupt a start that would never end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = "192.0.2.1"
GREETING = b"hello from outside\n"


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(GREETING)))
        self.end_headers()
        self.wfile.write(GREETING)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def silent_proxy(listener: socket.socket, callers: list[socket.socket], victim: int) -> None:
    while True:
        callers.append(listener.accept()[0])
        os.kill(victim, signal.SIGTERM)


def main(command: list[str]) -> int:
    web = ThreadingHTTPServer((ADDRESS, 80), Greeter)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    proxy = socket.create_server((ADDRESS, 1080))
    process = subprocess.Popen(command)
    threading.Thread(target=silent_proxy, args=(proxy, [], process.pid), daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
