from __future__ import annotations

import pytest

from tests.stack.packets import FAMILIES, HOST, STACK, name, packet, sent, udp_datagram, udp_packet
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Datagram
from tunsmith.stack.stack import Stack
from tunsmith.wire.ip import IPV4, IPV6, IpFamily
from tunsmith.wire.vnet import DATA_VALID, GSO_UDP_L4, NEEDS_CSUM, VNET

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


def arrived(stack: Stack) -> list[bytes]:
    """Payloads the owner was told of."""
    out = []
    while (event := stack.poll_event()) is not None:
        assert isinstance(event, Datagram)
        out.append(bytes(event.data))
    return out


def receive(stack: Stack, whole: bytes, vnet: bytes = bytes(10)) -> list[bytes]:
    stack.receive(whole, 1.0, vnet=vnet)
    return arrived(stack)


def key(family: IpFamily) -> bytes:
    """Of what the stack sends: from its port 53."""
    return family.key(STACK[family], 53, HOST[family], 5000)


@both
def test_a_datagram_is_told_with_its_ends(family: IpFamily) -> None:
    stack = Stack()
    stack.receive(udp_packet(family, b"query"), 1.0)
    event = stack.poll_event()
    assert event == Datagram(family, HOST[family], 5000, STACK[family], 53, b"query", 0)


@both
def test_a_wrong_checksum_is_dropped(family: IpFamily) -> None:
    stack = Stack()
    assert receive(stack, udp_packet(family, b"query", checksum=0x1234)) == []
    assert stack.drops == {"udp_checksum": 1}


@both
def test_a_checksum_that_somebody_vouches_for_is_not_computed(family: IpFamily) -> None:
    for flags in (NEEDS_CSUM, DATA_VALID):
        vnet = VNET.pack(flags, 0, 0, 0, 0, 0)
        assert receive(Stack(), udp_packet(family, b"query", checksum=0x1234), vnet) == [b"query"]


def test_checksum_zero_means_none_in_ipv4__rfc768() -> None:
    assert receive(Stack(), udp_packet(IPV4, b"query", checksum=0)) == [b"query"]


def test_the_header_is_checked_even_without_a_udp_checksum() -> None:
    stack = Stack()
    broken = bytearray(udp_packet(IPV4, b"query", checksum=0))
    broken[8] ^= 1
    assert receive(stack, bytes(broken)) == []
    assert stack.drops == {"ip_checksum": 1}


def test_checksum_zero_is_allowed_in_ipv6_where_tunnels_are_expected__rfc6935_5() -> None:
    stack = Stack(StackConfig(zero_checksum_ports=frozenset({53})))
    stack.receive(udp_packet(IPV6, b"inner", checksum=0), 1.0)
    assert isinstance(stack.poll_event(), Datagram)
    stack.receive(udp_packet(IPV6, b"inner", checksum=1), 1.0)
    assert stack.poll_event() is None
    assert stack.drops == {"udp_checksum": 1}


def test_checksum_zero_is_forbidden_in_ipv6__rfc8200_8_1() -> None:
    stack = Stack()
    assert receive(stack, udp_packet(IPV6, b"query", checksum=0)) == []
    assert stack.drops == {"udp_checksum_missing": 1}


@both
@pytest.mark.parametrize("length", [0, 7, 14])
def test_a_length_that_cannot_be_is_dropped(family: IpFamily, length: int) -> None:
    stack = Stack()
    assert receive(stack, udp_packet(family, b"query", length=length)) == []
    assert stack.drops == {"udp_length": 1}


@both
def test_bytes_behind_the_datagram_do_not_belong_to_it(family: IpFamily) -> None:
    assert receive(Stack(), packet(family, 17, udp_datagram(family, b"query") + b"padding")) == [b"query"]


@both
def test_a_packet_longer_than_its_frame_is_dropped(family: IpFamily) -> None:
    stack = Stack()
    assert receive(stack, udp_packet(family, b"query")[:-2]) == []
    assert stack.drops == {"udp_length": 1}


@both
def test_a_super_datagram_is_told_with_its_size(family: IpFamily) -> None:
    stack = Stack()
    vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 0, 1200, family.header_length, 6)
    stack.receive(udp_packet(family, bytes(3000)), 1.0, vnet=vnet)
    event = stack.poll_event()
    assert isinstance(event, Datagram)
    assert (len(event.data), event.segment_size) == (3000, 1200)


@both
def test_only_our_addresses_where_we_have_some(family: IpFamily) -> None:
    stack = Stack(StackConfig(any_destination=False, addresses=(STACK[family],)))
    assert receive(stack, udp_packet(family, b"query")) == [b"query"]
    other = packet(
        family,
        17,
        udp_datagram(family, b"x", destination=HOST[family]),
        destination=HOST[family],
    )
    assert receive(stack, other) == []
    assert stack.drops == {"not_our_address": 1}


@both
@pytest.mark.parametrize("offload", [True, False])
def test_an_answer_is_one_correct_packet(family: IpFamily, offload: bool) -> None:
    stack = Stack(StackConfig(offload=offload))
    stack.send_datagram(family, key(family), b"answer")
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[family], HOST[family])
    assert payload[:4] == bytes.fromhex("00351388")
    assert payload[8:] == b"answer"


@both
def test_a_sum_of_zero_is_sent_as_all_ones__rfc768(family: IpFamily) -> None:
    stack = Stack(StackConfig(offload=False))
    for word in range(65536):  # one of them, or its neighbour, sums up to zero
        if udp_datagram(family, word.to_bytes(2, "big"))[6:8] == b"\xff\xff":
            break
    stack.send_datagram(family, key(family), word.to_bytes(2, "big"))
    ((_, payload),) = sent(stack)
    assert payload[6:8] == b"\xff\xff"


@both
def test_a_super_datagram_leaves_in_pieces_of_its_size(family: IpFamily) -> None:
    for offload in (True, False):
        stack = Stack(StackConfig(offload=offload))
        stack.send_datagram(family, key(family), bytes(3000), 1200)
        assert [len(payload) - 8 for _, payload in sent(stack)] == [1200, 1200, 600]


@both
def test_one_datagram_of_the_size_is_a_plain_one(family: IpFamily) -> None:
    stack = Stack()
    stack.send_datagram(family, key(family), bytes(100), 1200)
    (frame,) = stack.frames_to_send()
    assert VNET.unpack_from(frame)[1] == 0


@both
@pytest.mark.parametrize("size", [1473, 2 * 1480 - 8, 2 * 1448 - 8, 5000, 65507 - 40])
def test_what_is_longer_than_the_mtu_leaves_as_fragments_that_we_would_take(
    family: IpFamily, size: int
) -> None:
    stack, host = Stack(), Stack()
    data = bytes(range(256)) * 256
    stack.send_datagram(family, key(family), data[:size])
    frames = list(stack.frames_to_send())
    assert len(frames) > 1
    assert all(len(frame) <= 1510 for frame in frames)
    for frame in reversed(frames):
        host.receive(frame[10:], 1.0)
    assert arrived(host) == [data[:size]]


@both
def test_what_just_fits_into_the_mtu_leaves_whole(family: IpFamily) -> None:
    stack = Stack()
    most = 1500 - family.header_length - 8
    stack.send_datagram(family, key(family), bytes(most))
    stack.send_datagram(family, key(family), bytes(3 * most), most)
    assert [len(payload) - 8 for _, payload in sent(stack)] == [most] * 4


@both
def test_a_super_datagram_of_datagrams_longer_than_the_mtu(family: IpFamily) -> None:
    stack, host = Stack(), Stack()
    stack.send_datagram(family, key(family), bytes(5000), 2000)
    for frame in stack.frames_to_send():
        host.receive(frame[10:], 1.0)
    assert [len(data) for data in arrived(host)] == [2000, 2000, 1000]


@both
def test_what_no_packet_can_carry_is_counted(family: IpFamily) -> None:
    stack = Stack()
    longest = 65507 if family is IPV4 else 65527
    stack.send_datagram(family, key(family), bytes(longest))
    assert list(stack.frames_to_send())
    stack.send_datagram(family, key(family), bytes(longest + 1))
    stack.send_datagram(family, key(family), bytes(70_000), 1200)
    assert not list(stack.frames_to_send())
    assert stack.drops == {"datagram_too_long": 2}
