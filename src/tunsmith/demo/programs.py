"""What stands in for curl where it is not installed, and a UDP client; any program would do.

    python -m tunsmith.demo.programs fetch URL        the page, on standard output
    python -m tunsmith.demo.programs measure URL      as `curl -w` does: bytes, seconds, seconds to the first byte
    python -m tunsmith.demo.programs echo HOST PORT   one datagram there and back

Exit codes are those of curl: 7 where there was no connection, 28 where nothing came in time.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT = 5.0
NO_CONNECTION, TOO_LATE = 7, 28


def fetch(url: str) -> None:
    """Print what is at `url`."""
    with urlopen(url, timeout=TIMEOUT) as answer:
        print(answer.read().decode(), end="")


def measure(url: str) -> None:
    """Read all there is at `url`; print its size and how long it took."""
    start = time.monotonic()
    buffer = bytearray(1 << 18)
    size = 0
    with urlopen(url, timeout=TIMEOUT) as answer:
        first = time.monotonic()
        while count := answer.readinto(buffer):
            size += count
    print(size, time.monotonic() - start, first - start)


def echo(host: str, port: str) -> None:
    """Send one datagram and print what comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((host, int(port)))
        client.send(b"Hello by UDP")
        print(client.recv(2048).decode())


_VERBS: dict[str, Callable[..., None]] = {"fetch": fetch, "measure": measure, "echo": echo}


def main(arguments: list[str]) -> int:
    """Run one of them; the exit code."""
    verb, *rest = arguments
    try:
        _VERBS[verb](*rest)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return TOO_LATE
    except (URLError, OSError) as error:
        print(getattr(error, "reason", error), file=sys.stderr)
        return NO_CONNECTION
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
