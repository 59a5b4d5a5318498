"""Stand-ins for nscd, systemd-resolved, the system bus and avahi, and a client that tries them.

`name_services.py serve CMD [ARG]...` listens on all of their sockets while CMD runs; `name_services.py knock`
says which of them answer.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

SOCKETS = (
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/dbus/system_bus_socket",
    "/run/avahi-daemon/socket",
)


def serve(command: list[str]) -> int:
    for path in SOCKETS:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
    return subprocess.run(command, check=False).returncode


def hang_up(listener: socket.socket) -> None:
    """Take every caller and say nothing; a C library that waited for nscd would wait long."""
    while True:
        listener.accept()[0].close()


def knock() -> int:
    for path in SOCKETS:
        with socket.socket(socket.AF_UNIX) as client:
            print("silent" if client.connect_ex(path) else "answers", path)
    return 0


if __name__ == "__main__":
    sys.exit(serve(sys.argv[2:]) if sys.argv[1] == "serve" else knock())
