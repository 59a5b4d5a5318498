from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.host.machine import ORDINARY_ID, USERS, on_machine, run

FRESH_NETWORK = ["unshare", "--net"]
PREAMBLE = """
import errno, fcntl, json, os, select, socket, subprocess
from ipaddress import ip_address
from tunsmith.errors import DeviceError, HostError, UsageError
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import adopt, open_tap, open_tun

def links():
    return [name for _, name in socket.if_nameindex()]

def details(name):
    shown = subprocess.run(["ip", "-j", "-d", "link", "show", name], capture_output=True, text=True, check=True)
    return json.loads(shown.stdout)[0]

def failure(call, *args, **options):
    try:
        call(*args, **options)
    except (DeviceError, HostError, UsageError) as error:
        return [type(error).__name__, str(error)]
    return "no error"

def say(*values):
    print(json.dumps(values))
"""


def _in_fresh_network(script: str) -> Any:
    result = run([*FRESH_NETWORK, sys.executable, "-B", "-c", PREAMBLE + script])
    assert result.stderr == ""
    return json.loads(result.stdout)


def _as_ordinary_user(script: str, prelude: str) -> Any:
    """With a /dev/net/tun of the usual mode and a network where root has done `prelude`."""
    command = [sys.executable, "-B", "-c", PREAMBLE + script]
    result = run(on_machine(command, USERS[1], prelude, network=True))
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.netns
def test_this_kernel_grants_every_offload() -> None:
    """CSUM, TSO4, TSO6, ECN, USO4, USO6."""
    assert _in_fresh_network("say(open_tun().offload, open_tap().offload)") == [0x6F, 0x6F]


@pytest.mark.netns
def test_no_more_offload_than_asked_for() -> None:
    script = (
        "say(open_tun(offload=7).offload, open_tap(offload=0).offload, open_tun(vnet_header=False).offload)"
    )
    assert _in_fresh_network(script) == [7, 0, 0]


@pytest.mark.netns
def test_descriptor_does_not_block_and_is_not_inherited() -> None:
    script = """
devices = [open_tun(), open_tap(), open_tun(packet_info=True)]
say(*([os.get_blocking(device.fileno()), os.get_inheritable(device.fileno())] for device in devices))
"""
    assert _in_fresh_network(script) == [[False, False]] * 3


@pytest.mark.netns
def test_template_finds_the_first_free_number() -> None:
    script = """
devices = [open_tun(), open_tun(), open_tap(), open_tun("vpn%d"), open_tun("tun7")]
say(*(device.name for device in devices), links())
"""
    *names, there = _in_fresh_network(script)
    assert names == ["tun0", "tun1", "tap0", "vpn0", "tun7"]
    assert there == ["lo", *names]


@pytest.mark.netns
def test_interface_goes_with_its_descriptor() -> None:
    assert _in_fresh_network("device = open_tun(); device.close(); say(*links())") == ["lo"]


@pytest.mark.netns
def test_what_ip_link_shows_is_what_was_asked_for() -> None:
    script = f"""
tun = open_tun(multi_queue=True, persist=True, owner={ORDINARY_ID}, group=7, mtu=9000)
tap = open_tap(vnet_header=False)
say(*(details(device.name) for device in (tun, tap)), tun.mtu, tun.ethernet, tap.mtu, tap.ethernet)
"""
    tun, tap, *rest = _in_fresh_network(script)
    assert rest == [9000, False, 1500, True]
    assert tun["mtu"] == 9000
    data = tun["linkinfo"]["info_data"]
    assert (data["type"], data["pi"], data["vnet_hdr"], data["multi_queue"]) == ("tun", False, True, True)
    assert (data["persist"], str(data["user"]), "group" in data) == (True, str(ORDINARY_ID), True)
    data = tap["linkinfo"]["info_data"]
    assert (data["type"], data["vnet_hdr"], data["persist"]) == ("tap", False, False)


@pytest.mark.netns
def test_persistence_is_kept_and_ended() -> None:
    script = """
open_tun("tun7", persist=True).close()
kept = links()
open_tun("tun7").close()
still = links()
open_tun("tun7", persist=False).close()
say(kept, still, links())
"""
    assert _in_fresh_network(script) == [["lo", "tun7"], ["lo", "tun7"], ["lo"]]


@pytest.mark.netns
def test_ordinary_user_opens_what_was_made_for_him() -> None:
    script = """
device = open_tun("tun7")
tap = open_tap("tap7")
say(device.offload, device.mtu, tap.offload, os.geteuid(), failure(open_tun, "tun8"), failure(open_tun, "other"))
"""
    prelude = (
        f"ip tuntap add dev tun7 mode tun user {ORDINARY_ID}; ip link set tun7 mtu 1400 up\n"
        f"ip tuntap add dev tap7 mode tap user {ORDINARY_ID}; ip tuntap add dev other mode tun user 1\n"
    )
    *granted, uid, not_made, not_his = _as_ordinary_user(script, prelude)
    assert granted == [0x6F, 1400, 0x6F]
    assert uid == ORDINARY_ID
    for (kind, message), name in ((not_made, "tun8"), (not_his, "other")):
        assert kind == "DeviceError"
        assert f"ip tuntap add dev {name} mode tun user {ORDINARY_ID}" in message
        assert ("ip tuntap del" in message) == (name == "other")  # before what exists can be made


@pytest.mark.netns
def test_queues_share_the_flows_of_one_interface() -> None:
    script = """
open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w").write("1")  # it would send first
queues = [open_tun("tun7", multi_queue=True) for _ in range(4)]
index = socket.if_nametoindex("tun7")
with RtNetlink() as netlink:
    netlink.link_up(index)
    netlink.address_add(index, ip_address("192.0.2.1"))
    netlink.default_route_add(index, socket.AF_INET)
for port in range(1000, 1200):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"payload", ("203.0.113.9", port))
buffer = memoryview(bytearray(70000))
counts = []
for queue in queues:
    count = 0
    while select.select([queue], [], [], 0)[0]:
        queue.read(buffer)
        count += 1
    counts.append(count)
say(sum(counts), min(counts) > 0, {queue.name for queue in queues} == {"tun7"})
"""
    assert _in_fresh_network(script) == [200, True, True]


@pytest.mark.netns
def test_descriptor_of_another_process_and_namespace_is_adopted() -> None:
    script = """
ours, theirs = socket.socketpair()
if not os.fork():
    os.unshare(0x40000000) if hasattr(os, "unshare") else __import__("ctypes").CDLL(None).unshare(0x40000000)
    socket.send_fds(theirs, [b"x"], [open_tap("tap5", mtu=1280, offload=0).fileno()])
    os._exit(0)
os.wait()
fd = socket.recv_fds(ours, 1, 1)[1][0]
device = adopt(fd)
say(device.name, device.ethernet, device.offload, device.mtu, os.get_blocking(fd), adopt(os.dup(fd), mtu=1280).mtu)
"""
    assert _in_fresh_network(script) == ["tap5", True, 0x6F, 1500, False, 1280]


@pytest.mark.netns
def test_what_cannot_be_adopted_is_left_to_the_caller() -> None:
    script = """
fd = os.open("/dev/null", os.O_RDWR)
tun = open_tun()
say(failure(adopt, fd), failure(adopt, tun.fileno(), packet_info=True), os.fstat(fd).st_rdev != 0)
"""
    (kind, message), (other_kind, other_message), open_still = _in_fresh_network(script)
    assert (kind, other_kind, open_still) == ("DeviceError", "DeviceError", True)
    assert "it is not an open TUN or TAP" in message
    assert "IFF_NO_PI" in other_message


@pytest.mark.netns
def test_errors_say_what_to_do_and_leave_nothing_open() -> None:
    script = """
used = open_tun("tun7")
several = open_tun("tun8", multi_queue=True)
before = len(os.listdir("/proc/self/fd"))
failures = [
    failure(open_tun, "tun7"), failure(open_tap, "tun7"), failure(open_tun, "tun8"),
    failure(open_tun, "lo"), failure(open_tun, "tun9", mtu=10),
]
say(*(kind + ": " + message for kind, message in failures), len(os.listdir("/proc/self/fd")) - before, links())
"""
    *failures, leaked, there = _in_fresh_network(script)
    words = ["another program uses it", "of another kind", "made with several queues", "another kind", "MTU"]
    for failure, word in zip(failures, words, strict=True):
        assert failure.startswith("DeviceError: cannot ")
        assert word in failure
        assert "\n" not in failure
    assert leaked == 0
    assert there == ["lo", "tun7", "tun8"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-", "%d%d", "%s", "tun%", "a\0b"]
)
def test_impossible_names_are_refused_before_anything_happens(name: str) -> None:
    from tunsmith.errors import UsageError
    from tunsmith.host.tun import open_tun

    with pytest.raises(UsageError, match="is no name for an interface"):
        open_tun(name)


@pytest.mark.netns
def test_frame_is_a_virtio_header_of_ten_bytes_and_a_packet() -> None:
    script = """
open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w").write("1")  # it would send first
tun = open_tun("tun7")
index = socket.if_nametoindex("tun7")
with RtNetlink() as netlink:
    netlink.link_up(index, 1400)
    netlink.address_add(index, ip_address("192.0.2.1"))
    netlink.default_route_add(index, socket.AF_INET)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"payload", ("203.0.113.9", 9))
frame = os.read(tun.fileno(), 65550)
say(len(frame), frame[0] & 1, frame[10] >> 4, list(frame[22:30]), frame[-7:].decode())
"""
    length, needs_checksum, version, addresses, payload = _in_fresh_network(script)
    assert (length, needs_checksum, version) == (10 + 20 + 8 + 7, 1, 4)
    assert addresses == [192, 0, 2, 1, 203, 0, 113, 9]
    assert payload == "payload"


@pytest.mark.netns
def test_what_the_kernel_refuses_is_raised_with_its_errno() -> None:
    script = """
tun = open_tun("tun7")
index = socket.if_nametoindex("tun7")
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
say(*outcomes)
"""
    assert _in_fresh_network(script) == ["FileExistsError", "No such device"]
