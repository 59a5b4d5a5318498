"""Long-lived connections, as SSH's are, and a service that has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from select import select

from tests.netns.topology import Namespace

ECHO = """
import socket, sys, threading
def echo(s):
    while data := s.recv(99):
        if data == b'later\\n':
            sys.stdin.readline()
            data = b'are you there?\\n'
        s.sendall(data)
l = socket.create_server(('', int(sys.argv[1])), backlog=9)
print('ready', flush=True)
while True: threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()
"""


class EchoServer:
    """A TCP service, as sshd is one: connections that say something hear it back."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        argv = namespace.command([sys.executable, "-S", "-c", ECHO, str(port)])
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def go_on(self) -> None:
        """Answer the one who said `later`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Session:
    """A connection to an EchoServer."""

    def __init__(self, namespace: Namespace, host: str, port: int) -> None:
        self._process = subprocess.Popen(
            namespace.command(["nc", host, str(port)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def check(self) -> None:
        assert self._process.stdout is not None
        self.say(b"are you there?\n")
        self.hear()

    def hear(self) -> None:
        """The server says it."""
        assert self._process.stdout is not None
        assert select([self._process.stdout], [], [], 5.0)[0], "no answer"
        assert self._process.stdout.readline() == b"are you there?\n"


def check_all(sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.check()
