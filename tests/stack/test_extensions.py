from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.stack import extensions as module
from tunsmith.stack.extensions import Chain, Fragment, ParameterProblem, walk

TCP, UDP = 6, 17
HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
PAD6 = b"\x01\x04\0\0\0\0"
UPPER = bytes(20)


def packet(*headers: tuple[int, bytes], upper: int = UDP, payload: bytes = UPPER) -> bytes:
    """A fixed header, then `headers` as (protocol, everything after its next-header byte)."""
    protocols = [protocol for protocol, _ in headers] + [upper]
    body = b"".join(
        bytes([following]) + rest for following, (_, rest) in zip(protocols[1:], headers, strict=True)
    )
    whole = body + payload
    return bytes(4) + len(whole).to_bytes(2, "big") + bytes([protocols[0], 64]) + bytes(32) + whole


def options(data: bytes) -> bytes:
    assert (len(data) + 2) % 8 == 0
    return bytes([(len(data) + 2) // 8 - 1]) + data


def fragment(offset: int, more: bool, identification: int = 7) -> tuple[int, bytes]:
    return FRAGMENT, b"\0" + (offset | more).to_bytes(2, "big") + identification.to_bytes(4, "big")


def test_no_extensions() -> None:
    assert walk(packet()) == Chain(UDP, 40, 6)


def test_all_known_headers_in_their_usual_order() -> None:
    chain = walk(
        packet(
            (HOP, options(PAD6)),
            (DESTINATION, options(PAD6 + bytes(8))),
            (ROUTING, options(b"\0\0" + bytes(4))),
            upper=TCP,
        )
    )
    assert chain == Chain(TCP, 40 + 8 + 16 + 8, 40 + 8 + 16)


def test_a_fragment_ends_the_walk_where_its_payload_begins() -> None:
    frame = packet((HOP, options(PAD6)), fragment(16, True, 0xDEADBEEF), payload=bytes(24))
    assert walk(frame) == Chain(UDP, 56, 48, Fragment(16, True, 0xDEADBEEF))


def test_a_first_fragment_is_walked_to_the_upper_layer__rfc7112() -> None:
    whole = packet(fragment(0, True), (DESTINATION, options(PAD6)), payload=bytes(8))
    assert walk(whole) == Chain(DESTINATION, 48, 40, Fragment(0, True, 7))
    short = packet(fragment(0, True), (DESTINATION, options(PAD6)), upper=TCP, payload=bytes(16))
    with pytest.raises(ParameterProblem) as caught:
        walk(short)
    assert (caught.value.code, caught.value.pointer) == (3, 0)


def test_atomic_fragments_are_stepped_over__rfc6946() -> None:
    assert walk(packet(fragment(0, False), (DESTINATION, options(PAD6)))) == Chain(UDP, 56, 48)


def test_a_reassembled_payload_goes_on_behind_the_first_header() -> None:
    first = packet(fragment(0, True), (DESTINATION, options(PAD6)), payload=bytes(8))
    found = walk(first)
    header = first[: found.offset]
    payload = first[found.offset :] + bytes(100)
    assert walk(header + payload, len(header) - 8, len(header)) == Chain(UDP, 56, 48)


@pytest.mark.parametrize(
    ("frame", "code", "pointer"),
    [
        (packet((ROUTING, options(b"\0\1" + bytes(4)))), 0, 42),
        (packet((ROUTING, options(b"\4\2" + bytes(4)))), 0, 42),
        (packet((DESTINATION, options(PAD6)), (HOP, options(PAD6))), 1, 40),
        (packet((HOP, options(b"\x80\x04" + bytes(4)))), 2, 42),
        (packet((HOP, options(b"\0\xc2\x03" + bytes(3)))), 2, 43),
        (packet((HOP, options(b"\x01\x05" + bytes(4)))), 0, 43),
        (packet((HOP, options(b"\x01\x03" + bytes(3) + b"\x01"))), 0, 47),
        (packet(fragment(8, True), payload=bytes(9)), 0, 4),
        (packet(fragment(65528, False), payload=bytes(8)), 0, 42),
    ],
    ids=[
        "routing type 0",
        "segments left",
        "hop-by-hop not first",
        "unknown option 10",
        "unknown option 11",
        "option past its header",
        "option without length",
        "fragment not a multiple of 8",
        "fragment beyond 65535",
    ],
)
def test_faults_point_at_the_byte__rfc4443_3_4(frame: bytes, code: int, pointer: int) -> None:
    with pytest.raises(ParameterProblem) as caught:
        walk(frame)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (packet((HOP, options(b"\x40\x04" + bytes(4)))), "option_discard"),
        (packet(upper=59), "no_next_header"),
        (packet((DESTINATION, b"\x7f" + PAD6)), "extension_truncated"),
        (packet((DESTINATION, options(PAD6)))[:45], "extension_truncated"),
        (packet(upper=TCP, payload=bytes(19)), "extension_truncated"),
        (packet(*[(DESTINATION, options(PAD6))] * 8), "extension_chain"),
        (packet((HOP, options(bytes(46)))), "option_count"),
        (packet(fragment(0, True), fragment(0, True), payload=bytes(24)), "fragment_nested"),
    ],
)
def test_faults_that_nobody_is_told_of(frame: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        walk(frame)
    assert caught.value.reason == reason
    assert not isinstance(caught.value, ParameterProblem)


@pytest.mark.parametrize("count", [module.MAX_OPTIONS, module.MAX_OPTIONS + 1])
def test_options_are_bounded__rfc8504_5_3(count: int) -> None:
    options_ = b"\0" * (count - 1) + b"\x01" + bytes([(6 - count - 1) % 8]) + bytes((6 - count - 1) % 8)
    frame = packet((HOP, options(options_)))
    if count <= module.MAX_OPTIONS:
        assert walk(frame).protocol == UDP
    else:
        with pytest.raises(WireError) as caught:
            walk(frame)
        assert caught.value.reason == "option_count"


def test_option_11_is_silent_to_multicast__rfc8200_4_2() -> None:
    frame = packet((HOP, options(b"\xc2\x04" + bytes(4))))
    with pytest.raises(WireError) as caught:
        walk(frame, multicast=True)
    assert caught.value.reason == "option_discard"


def test_unknown_options_that_may_be_skipped_are() -> None:
    assert walk(packet((HOP, options(b"\x05\x02\0\0\0\0")))).protocol == UDP


@given(
    st.lists(st.sampled_from([DESTINATION, FRAGMENT, ROUTING, HOP]), max_size=4),
    st.sampled_from([TCP, UDP, 58, 132]),
    st.binary(max_size=80),
)
def test_behind_a_first_fragment_that_was_walked_no_fragment_header_follows__rfc7112(
    kinds: list[int], upper: int, rest: bytes
) -> None:
    """So that the datagram that it begins, once whole, can be passed on."""
    bodies = {FRAGMENT: fragment(0, True)[1], ROUTING: options(bytes(6))}
    headers = [(kind, bodies.get(kind, options(PAD6))) for kind in kinds]
    first = packet(fragment(0, True), *headers, upper=upper, payload=bytes(24))
    try:
        chain = walk(first)
    except WireError:
        return
    assert FRAGMENT not in kinds
    whole = walk(first + rest, chain.offset - 8, chain.offset)
    assert (whole.protocol, whole.fragment) == (upper, None)


_protocols = st.sampled_from([HOP, ROUTING, FRAGMENT, DESTINATION, TCP, UDP, 58, 59, 255])


@given(_protocols, st.lists(st.one_of(_protocols, st.integers(0, 255)), max_size=200))
def test_random_bytes_raise_nothing_but_wire_errors(first: int, body: list[int]) -> None:
    frame = bytes(6) + bytes([first]) + bytes(33) + bytes(body)
    outcome: Chain | WireError
    try:
        outcome = walk(frame)
    except WireError as error:
        outcome = error
    if isinstance(outcome, Chain):
        assert outcome.named_at < outcome.offset <= len(frame)
        assert outcome.protocol == frame[outcome.named_at]
    if isinstance(outcome, ParameterProblem):
        assert 0 <= outcome.pointer < len(frame)
