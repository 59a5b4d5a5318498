"""host/steering.py: the queue of a packet is that of its source, whoever it goes to."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.host.machine import run

pytestmark = pytest.mark.netns

QUEUES = 4
PREAMBLE = f"""
import json, os, socket
from ipaddress import ip_address
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.steering import steer_by_source
from tunsmith.host.tun import open_tun

queues = [open_tun("tun0", multi_queue=True) for _ in range({QUEUES})]
steer_by_source(queues[0].fileno())
index = socket.if_nametoindex("tun0")
with RtNetlink() as netlink:
    netlink.link_up(index)
    for here, there in (("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")):
        netlink.address_add(index, ip_address(here), ip_address(there))
        netlink.default_route_add(index, socket.AF_INET if "." in here else socket.AF_INET6)

room = memoryview(bytearray(70000))
def drain():
    found = []
    for queue in queues:
        count = 0
        try:
            while True:
                length = queue.read(room)
                first = room[10] >> 4
                protocol = room[19] if first == 4 else room[16]
                count += protocol in (6, 17, 44)  # not the kernel's own neighbour discovery
        except BlockingIOError:
            found.append(count)
    return found

def sock(family, kind, port):
    made = socket.socket(family, kind)
    made.bind(("10.9.0.1" if family == socket.AF_INET else "fd09::1", port))
    made.setblocking(False)
    return made
"""
FAMILIES = pytest.mark.parametrize(
    ("family", "address"), [("AF_INET", "10.9.1.{}"), ("AF_INET6", "fd09::1:{}")], ids=["v4", "v6"]
)


def _queues(script: str) -> Any:
    result = run(["unshare", "--net", sys.executable, "-B", "-c", PREAMBLE + script])
    assert result.stderr == ""
    return json.loads(result.stdout)


@FAMILIES
def test_one_port_is_served_by_one_queue_whoever_it_talks_to__rfc4787_4_1(family: str, address: str) -> None:
    found = _queues(f"""
one = sock(socket.{family}, socket.SOCK_DGRAM, 5000)
drain()
for number in range(1, 61):
    one.sendto(b"x", ("{address}".format(number), 1000 + number))
print(json.dumps(drain()))
""")
    assert sorted(found) == [0, 0, 0, 60]


@FAMILIES
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
def test_ports_are_spread_over_the_queues(family: str, address: str, kind: str) -> None:
    found = _queues(f"""
many = [sock(socket.{family}, socket.{kind}, 6000 + number) for number in range(200)]
drain()
for each in many:
    each.connect_ex(("{address}".format(1), 80))
    if socket.{kind} == socket.SOCK_DGRAM:
        each.send(b"x")
print(json.dumps(drain()))
""")
    assert sum(found) == 200
    assert min(found) > 20


@FAMILIES
def test_the_pieces_of_a_datagram_stay_together(family: str, address: str) -> None:
    found = _queues(f"""
drain()
for number in range(20):
    sock(socket.{family}, socket.SOCK_DGRAM, 7000 + number).sendto(bytes(4000), ("{address}".format(1), 9))
print(json.dumps(drain()))
""")
    assert sorted(found) == [0, 0, 0, 60]
