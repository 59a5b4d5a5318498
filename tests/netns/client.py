"""The application inside: `client.py FUNCTION ARGUMENT...` prints as JSON what it saw. Standard library only,
and blocking sockets: what counts is what a plain program is told by its kernel."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from tests.netns.pattern import BLOCK, blocks

PATIENCE = 20.0
UDP_SEGMENT, UDP_GRO = 103, 104
IP_RECVERR, IPV6_RECVERR = 11, 25
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
IP_MTU, IPV6_MTU = 14, 24
FUNCTIONS: dict[str, Callable[..., object]] = {}


def function(body: Callable[..., object]) -> Callable[..., object]:
    FUNCTIONS[body.__name__] = body
    return body


def word(error: OSError) -> str:
    return (
        "timeout"
        if isinstance(error, TimeoutError) and error.errno is None
        else errno.errorcode[error.errno or 0]
    )


def read_to_end(sock: socket.socket) -> dict[str, object]:
    sha, count, end = hashlib.sha256(), 0, "fin"
    try:
        while data := sock.recv(1 << 18):
            sha.update(data)
            count += len(data)
    except OSError as error:
        end = word(error)
    return {"count": count, "sha256": sha.hexdigest(), "end": end}


def open_tcp(host: str, port: str, timeout: float = PATIENCE) -> socket.socket:
    return socket.create_connection((host, int(port)), timeout)


@function
def connect(host: str, port: str, timeout: str = "3") -> str:
    """ "open", the name of the error, or "timeout"."""
    try:
        open_tcp(host, port, float(timeout)).close()
    except OSError as error:
        return word(error)
    return "open"


@function
def upload(host: str, port: str, size: str) -> object:
    """Send, FIN, and hear what the other side says then."""
    with open_tcp(host, port) as sock:
        for block in blocks(int(size)):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
        return json.loads(b"".join(iter(lambda: sock.recv(BLOCK), b"")))


@function
def upload_and_leave(host: str, port: str, size: str) -> None:
    """Send and exit, without a look back."""
    sock = open_tcp(host, port)
    for block in blocks(int(size)):
        sock.sendall(block)


@function
def download(host: str, port: str, size: str) -> object:
    with open_tcp(host, port) as sock:
        sock.sendall(size.encode() + b"\n")
        return read_to_end(sock)


@function
def download_after_fin(host: str, port: str, size: str) -> object:
    with open_tcp(host, port) as sock:
        sock.sendall(size.encode() + b"\n")
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock)


@function
def upload_after_their_fin(host: str, port: str, size: str) -> object:
    with open_tcp(host, port) as sock:
        seen = read_to_end(sock)
        for block in blocks(int(size)):
            sock.sendall(block)
        return seen


@function
def be_reset(host: str, port: str) -> object:
    with open_tcp(host, port) as sock:
        sock.sendall(b"a line\n")
        data = b""
        while len(data) < 9:
            data += sock.recv(9)
        sock.sendall(b"go on\n")
        return {"data": data.decode(), **read_to_end(sock)}


@function
def wait(host: str, port: str) -> object:
    """How a connection ends on which nothing is said."""
    with open_tcp(host, port, 60) as sock:
        return read_to_end(sock)


@function
def reset(host: str, port: str) -> None:
    """End with RST after a few bytes."""
    sock = open_tcp(host, port)
    sock.sendall(b"0123456789")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@function
def ask(host: str, port: str) -> str:
    """All that a TCP server says."""
    with open_tcp(host, port) as sock:
        return b"".join(iter(lambda: sock.recv(BLOCK), b"")).decode()


@function
def parallel(host: str, port: str, count: str, size: str) -> object:
    """`count` uploads at a time."""
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(upload(host, port, size))) for _ in range(int(count))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@function
def hold(host: str, port: str, count: str) -> object:
    """Open connections, never read, say so, and go on when told by standard input."""
    socks = []
    outcome = []
    for _ in range(int(count)):
        try:
            socks.append(open_tcp(host, port))
            outcome.append("open")
        except OSError as error:
            outcome.append(word(error))
    print(json.dumps(outcome), flush=True)
    sys.stdin.readline()
    return "done"


@function
def push(host: str, port: str) -> object:
    """Write until nobody takes more; say how much that was; go on when told."""
    sock = open_tcp(host, port, 2.0)
    count = 0
    try:
        while True:
            count += sock.send(bytes(BLOCK))
    except TimeoutError:
        pass
    print(json.dumps(count), flush=True)
    sys.stdin.readline()
    return "done"


def open_udp(host: str, timeout: float = 5.0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    return sock


@function
def udp_ask(host: str, port: str, timeout: str = "5") -> str:
    """The answer to one datagram from a connected socket, or the error; any ICMP error, not just refusal."""
    with open_udp(host, float(timeout)) as sock:
        try:
            if ":" in host:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.connect((host, int(port)))
            sock.send(b"?")
            return sock.recv(BLOCK).decode()
        except OSError as error:
            return word(error)


@function
def udp_echo(host: str, port: str, *sizes: str) -> list[bool]:
    """Whether datagrams of these sizes come back as they went."""
    same = []
    with open_udp(host) as sock:
        for size in map(int, sizes):
            data = next(blocks(size)) if size else b""
            sock.sendto(data, (host, int(port)))
            same.append(sock.recv(BLOCK) == data)
    return same


@function
def udp_echo_at_once(host: str, port: str, count: str, size: str) -> int:
    """How many of `count` datagrams, all sent before the first answer is read, come back as they went."""
    sent = [
        number.to_bytes(4, "big") * (int(size) // 4) + bytes(int(size) % 4) for number in range(int(count))
    ]
    with open_udp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for data in sent:
            sock.sendto(data, (host, int(port)))
        return len({sock.recv(BLOCK) for _ in sent} & set(sent))


@function
def udp_from_one_port(*targets: str) -> list[object]:
    """What servers `HOST PORT HOST PORT ...` say, asked from one unconnected socket."""
    with open_udp(targets[0]) as sock:
        seen: list[object] = []
        for host, port in zip(targets[::2], targets[1::2], strict=True):
            sock.sendto(b"?", (host, int(port)))
            data, source = sock.recvfrom(BLOCK)
            seen.append([data.decode(), *source[:2]])
        return seen


@function
def udp_path_mtu(host: str, port: str, size: str) -> object:
    """What the kernel has learnt of the path after datagrams that must not be fragmented, and how it says so."""
    six = ":" in host
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    with open_udp(host, 0.2) as sock:
        sock.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_DO)
        sock.connect((host, int(port)))
        for _ in range(20):
            try:
                sock.send(bytes(int(size)))
                sock.recv(BLOCK)
            except TimeoutError:
                continue
            except OSError as error:
                return [word(error), sock.getsockopt(level, IPV6_MTU if six else IP_MTU)]
    return "passed"


@function
def same_port_again(host: str, port: str, times: str) -> object:
    """Connections from one source port, one after the other, each ended by the server first."""
    source, answers = 0, 0
    for _ in range(int(times)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source))
            source = sock.getsockname()[1]
            # Until our FIN is acknowledged the kernel itself holds the tuple.
            until = time.monotonic() + PATIENCE
            while sock.connect_ex((host, int(port))) == errno.EADDRNOTAVAIL:
                assert time.monotonic() < until
            answers += b"".join(iter(lambda: sock.recv(BLOCK), b"")) != b""
    return answers


@function
def udp_segments_up(host: str, port: str, rounds: str, count: str, size: str) -> object:
    """Numbered datagrams by UDP_SEGMENT to an echo; which came back."""
    step = int(size)
    numbers: list[int] = []
    with open_udp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for turn in range(int(rounds)):
            first = turn * int(count)
            whole = b"".join(
                number.to_bytes(4, "big") * (step // 4) for number in range(first, first + int(count))
            )
            segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", step))]
            sock.sendmsg([whole], segment, 0, (host, int(port)))
            numbers += [_number(sock.recv(BLOCK), step) for _ in range(int(count))]
    return numbers == list(range(len(numbers)))


@function
def udp_segments_down(host: str, port: str, rounds: str, count: str, size: str) -> object:
    """Numbered datagrams of a burst server, read with UDP_GRO: are all there, and the largest read."""
    step, largest = int(size), 0
    numbers: list[int] = []
    with open_udp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        for turn in range(int(rounds)):
            first = turn * int(count)
            sock.sendto(f"{first} {count} {size}".encode(), (host, int(port)))
            while len(numbers) < first + int(count):
                data, _, _, _ = sock.recvmsg(BLOCK, 64)
                largest = max(largest, len(data))
                numbers += [_number(data[at : at + step], step) for at in range(0, len(data), step)]
    return {"complete": numbers == list(range(len(numbers))), "largest": largest}


def _number(datagram: bytes, size: int) -> int:
    assert datagram == datagram[:4] * (size // 4)
    return int.from_bytes(datagram[:4], "big")


@function
def look_up(host: str, family: str = "0") -> object:
    """What getaddrinfo says, or its error."""
    try:
        found = socket.getaddrinfo(host, 80, int(family), socket.SOCK_STREAM)
    except socket.gaierror as error:
        return str(error.args[0])
    return sorted({entry[4][0] for entry in found})


if __name__ == "__main__":
    print(json.dumps(FUNCTIONS[sys.argv[1]](*sys.argv[2:])))
