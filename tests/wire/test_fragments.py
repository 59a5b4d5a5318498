from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.stack.reassembly import Reassembler
from tunsmith.wire.checksum import finish, ones_sum
from tunsmith.wire.fragments import fragment
from tunsmith.wire.ip import IPV4, parse_ip

HERE, THERE = b"\x0a\0\0\1", b"\x0a\0\0\2"


def _packet(payload: bytes, options: bytes = b"", field: int = 0) -> bytes:
    plain = IPV4.header(HERE, THERE, 17, len(payload) + len(options), identification=7, fragment=field)
    head = bytearray(plain + options)
    head[0] = 0x40 | len(head) // 4
    head[10:12] = bytes(2)
    head[10:12] = finish(ones_sum(head)).to_bytes(2, "big")
    return bytes(head) + payload


@given(st.binary(min_size=1, max_size=4000), st.integers(68, 1500), st.randoms(use_true_random=False))
def test_fragments_are_put_together_again__rfc791_3_2(payload, mtu, random) -> None:
    packet = _packet(payload)
    pieces = fragment(packet, parse_ip(packet), mtu)
    if len(packet) <= mtu:
        assert pieces == [packet]
        return
    random.shuffle(pieces)
    reassembler = Reassembler(Counter())
    whole = None
    for piece in pieces:
        header = parse_ip(piece)
        assert header.total_length == len(piece) <= mtu
        assert (header.identification, header.ttl) == (7, 64)
        view = memoryview(piece)
        whole = reassembler.add(
            b"key", view[:20], header.fragment_offset, header.more_fragments, view[20:], 0.0
        )
    assert whole is not None
    assert whole[1] == payload


def test_fragments_of_a_fragment_know_where_they_belong() -> None:
    packet = _packet(bytes(200), field=0x2000 | 100)
    pieces = [parse_ip(piece) for piece in fragment(packet, parse_ip(packet), 120)]
    assert [(piece.fragment_offset, piece.more_fragments) for piece in pieces] == [
        (800, True),
        (896, True),
        (992, True),
    ]


def test_only_copied_options_go_into_later_fragments__rfc791_3_1() -> None:
    timestamp, router_alert = b"\x44\x04\x05\x00", b"\x94\x04\x00\x00"
    packet = _packet(bytes(200), options=b"\x01" + timestamp + router_alert + bytes(3))
    first, *later = fragment(packet, parse_ip(packet), 120)
    assert first[20:32] == b"\x01" + timestamp + router_alert + bytes(3)
    assert all(piece[20:24] == router_alert and piece[0] == 0x46 for piece in later)


def test_options_that_do_not_add_up_are_left_behind() -> None:
    for options in (b"\x94\x09\0\0", b"\x01\x01\x01\x94", b"\x94\x01\0\0"):
        packet = _packet(bytes(200), options=options)
        assert fragment(packet, parse_ip(packet), 120)[1][0] == 0x45


def test_a_packet_that_just_fits_stays_whole() -> None:
    packet = _packet(bytes(100))
    assert fragment(packet, parse_ip(packet), 120) == [packet]
    assert len(fragment(packet, parse_ip(packet), 119)) == 2
