from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.host.machine import run

pytestmark = pytest.mark.netns

FRESH_NETWORK = ["unshare", "--net"]
PREAMBLE = """
import json, os, socket
from ipaddress import ip_address
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
tun, offload = open_tun("tun7")
index = socket.if_nametoindex("tun7")
"""


def _in_fresh_network(script: str) -> Any:
    result = run([*FRESH_NETWORK, sys.executable, "-B", "-c", PREAMBLE + script])
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_this_kernel_grants_every_offload() -> None:
    assert _in_fresh_network("print(json.dumps(offload))") == 0x6F  # CSUM, TSO4, TSO6, ECN, USO4, USO6


def test_descriptor_does_not_block_and_is_not_inherited() -> None:
    script = "print(json.dumps([os.get_blocking(tun), os.get_inheritable(tun)]))"
    assert _in_fresh_network(script) == [False, False]


def test_interface_goes_with_its_descriptor() -> None:
    script = """
os.close(tun)
print(json.dumps([name for _, name in socket.if_nameindex()]))
"""
    assert _in_fresh_network(script) == ["lo"]


def test_frame_is_a_virtio_header_of_ten_bytes_and_a_packet() -> None:
    script = """
open("/proc/sys/net/ipv6/conf/tun7/disable_ipv6", "w").write("1")  # it would send first
with RtNetlink() as netlink:
    netlink.link_up(index, 1400)
    netlink.address_add(index, ip_address("192.0.2.1"))
    netlink.default_route_add(index, socket.AF_INET)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"payload", ("203.0.113.9", 9))
frame = os.read(tun, 65550)
print(json.dumps([len(frame), frame[0] & 1, frame[10] >> 4, list(frame[22:30]), frame[-7:].decode()]))
"""
    length, needs_checksum, version, addresses, payload = _in_fresh_network(script)
    assert (length, needs_checksum, version) == (10 + 20 + 8 + 7, 1, 4)
    assert addresses == [192, 0, 2, 1, 203, 0, 113, 9]
    assert payload == "payload"


def test_what_the_kernel_refuses_is_raised_with_its_errno() -> None:
    script = """
outcomes = []
with RtNetlink() as netlink:
    for attempt in range(2):
        try:
            netlink.address_add(index, ip_address("2001:db8::1"))
        except OSError as error:
            outcomes.append(type(error).__name__)
    try:
        netlink.link_up(9999)
    except OSError as error:
        outcomes.append(error.strerror)
print(json.dumps(outcomes))
"""
    assert _in_fresh_network(script) == ["FileExistsError", "No such device"]
