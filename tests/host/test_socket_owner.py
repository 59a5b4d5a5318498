"""Whose a socket is, as the kernel knows."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

import pytest

from tunsmith.host.socket_owner import _address, holds, inode_of, listeners_at, name_of, peers_of

FAMILIES = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


def packed(address: tuple[str, int]) -> tuple[bytes, int]:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.inet_pton(family, address[0]), address[1]


@FAMILIES
def test_connection_is_known_by_its_ends(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        there = server.getsockname()[:2]
        with socket.create_connection(there) as sock:
            here = sock.getsockname()[:2]
            inode = inode_of(socket.IPPROTO_TCP, packed(here), packed(there))
            assert inode == os.fstat(sock.fileno()).st_ino
            assert holds(os.getpid(), inode)
            assert not holds(os.getppid(), inode)
            assert inode_of(socket.IPPROTO_TCP, packed((here[0], here[1] ^ 1)), packed(there)) == 0


@FAMILIES
def test_udp_port_is_known_by_its_ends(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        here = sock.getsockname()[:2]
        inode = inode_of(socket.IPPROTO_UDP, packed(here), packed((host, 9)))
        assert inode == os.fstat(sock.fileno()).st_ino


@FAMILIES
def test_whom_a_process_is_connected_to_is_known_but_for_itself(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))
        assert peers_of([os.getpid()]) == set()
    assert _address("0100A8C0:0035") == ip_address("192.168.0.1")
    assert _address("B80D0120000000000000000001000000:0035") == ip_address("2001:db8::1")
    assert _address("0000000000000000FFFF00000100A8C0:0035") == ip_address("192.168.0.1")


def test_who_listens_is_found_by_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listeners_at(port) == {os.getpid()}
    assert listeners_at(port) == frozenset()
    assert name_of(os.getpid())
    assert name_of(1 << 30) == ""
