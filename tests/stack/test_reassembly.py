from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tunsmith.stack.reassembly import Reassembler
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

V4 = b"\x45" + bytes(19)
V6 = b"\x60" + bytes(39) + b"\x11" + bytes(7)
KEY = b"key"

Piece = tuple[int, bool, bytes]


def make(**bounds: float) -> tuple[Reassembler, Counter[str]]:
    drops: Counter[str] = Counter()
    return Reassembler(drops, **bounds), drops  # type: ignore[arg-type]


def cut(payload: bytes, unit: int) -> list[Piece]:
    """Fragments of `unit` bytes."""
    return [(at, at + unit < len(payload), payload[at : at + unit]) for at in range(0, len(payload), unit)]


def feed(reassembler: Reassembler, pieces: list[Piece], key: bytes = KEY) -> list[tuple[bytes, bytes]]:
    done = (reassembler.add(key, V4 + bytes([at % 251]), at, more, data, 0.0) for at, more, data in pieces)
    return [whole for whole in done if whole]


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[bytes, list[Piece]]:
    payload = draw(st.binary(min_size=9, max_size=600))
    units = (len(payload) - 1) // 8
    marks = sorted(draw(st.sets(st.integers(1, units), min_size=1)))
    edges = [0, *(8 * mark for mark in marks), len(payload)]
    pieces = [(start, stop < len(payload), payload[start:stop]) for start, stop in pairwise(edges)]
    return payload, pieces


@given(cuttings(), st.randoms(use_true_random=False))
def test_any_order_with_duplicates_yields_the_datagram_once(
    cutting: tuple[bytes, list[Piece]], random: Random
) -> None:
    payload, pieces = cutting
    arrivals = pieces[:-1] + random.choices(pieces[:-1], k=len(pieces))
    random.shuffle(arrivals)
    reassembler, _ = make()
    assert feed(reassembler, [*arrivals, pieces[-1]]) == [(V4 + b"\0", payload)]
    assert (len(reassembler), reassembler.used) == (0, 0)


@given(cuttings(), st.randoms(use_true_random=False))
def test_any_permutation_yields_at_the_last_fragment(
    cutting: tuple[bytes, list[Piece]], random: Random
) -> None:
    payload, pieces = cutting
    random.shuffle(pieces)
    reassembler, drops = make()
    assert not feed(reassembler, pieces[:-1])
    assert feed(reassembler, pieces[-1:]) == [(V4 + b"\0", payload)]
    assert not drops


@given(cuttings(), st.data())
def test_an_overlap_anywhere_condemns_the_datagram__rfc5722(
    cutting: tuple[bytes, list[Piece]], data: st.DataObject
) -> None:
    payload, pieces = cutting
    start = data.draw(st.integers(0, (len(payload) - 1) // 8)) * 8
    length = data.draw(st.integers(1, 8)) * 8
    rogue = (start, True, bytes(length))
    edges = {at for at, _, _ in pieces}
    assume(not {start, start + length} <= edges)  # or it could take the place of honest ones, unnoticed
    arrivals = data.draw(st.permutations([*pieces, rogue]))
    if arrivals[-1] == rogue:  # the honest ones are complete before it comes
        arrivals = [rogue, *arrivals[:-1]]
    reassembler, drops = make()
    assert feed(reassembler, arrivals) == []
    assert drops["fragment_overlap"] >= 1
    assert feed(reassembler, pieces) == [], "late fragments must not start it anew"


@given(
    st.lists(st.tuples(st.binary(max_size=2), st.integers(0, 8191), st.booleans(), st.binary(max_size=80)))
)
def test_memory_is_bounded_whatever_comes(fragments: list[tuple[bytes, int, bool, bytes]]) -> None:
    reassembler, _ = make(max_bytes=2000, max_datagrams=3)
    for key, unit, more, data in fragments:
        reassembler.add(key, V4, unit * 8, more, data, 0.0)
        assert reassembler.used <= 2000
        assert len(reassembler) <= 3


def test_tiny_fragments_are_charged_for_their_overhead() -> None:
    reassembler, drops = make(max_bytes=10_000)
    for at in range(8, 8 * 100, 8):
        reassembler.add(KEY, V4, at, True, bytes(8), 0.0)
        assert reassembler.used <= 10_000
    assert drops["fragment_evicted"] == 1


def test_the_oldest_makes_room() -> None:
    reassembler, drops = make(max_datagrams=2)
    first, last = cut(bytes(range(16)), 8)
    for key in (b"a", b"b", b"c"):
        assert not feed(reassembler, [first], key)
    assert not feed(reassembler, [last], b"a")
    assert feed(reassembler, [last], b"c") == [(V4 + b"\0", bytes(range(16)))]
    assert drops["fragment_evicted"] == 2


def test_exact_duplicates_are_ignored_and_counted() -> None:
    reassembler, drops = make()
    first, last = cut(bytes(16), 8)
    assert not feed(reassembler, [last, last])
    assert feed(reassembler, [first]) == [(V4 + b"\0", bytes(16))]
    assert drops == {"fragment_duplicate": 1}


@pytest.mark.parametrize(
    "second",
    [
        (8, True, bytes(8)),
        (8, False, bytes(16)),
        (16, True, bytes(8)),
        (16, False, bytes(8)),
        (8, False, b"\1" * 8),
    ],
    ids=["more after the end", "longer", "beyond", "another end", "other bytes"],
)
def test_a_second_opinion_about_the_end_condemns(second: Piece) -> None:
    reassembler, drops = make()
    assert not feed(reassembler, [(8, False, bytes(8)), second])
    assert not feed(reassembler, [(0, True, bytes(8))])
    assert drops["fragment_overlap"] == 2


def test_the_same_place_with_other_bytes_condemns() -> None:
    reassembler, drops = make()
    assert not feed(reassembler, [(0, True, bytes(8)), (0, True, b"\1" * 8), (8, False, bytes(8))])
    assert drops == {"fragment_overlap": 2}


def test_an_end_before_what_is_there_condemns() -> None:
    reassembler, drops = make()
    assert not feed(reassembler, [(16, True, bytes(8)), (8, False, bytes(8))])
    assert drops == {"fragment_overlap": 1}


def test_atomic_fragments_pass_in_isolation__rfc6946() -> None:
    reassembler, drops = make()
    first, last = cut(bytes(16), 8)
    assert not feed(reassembler, [first])
    assert feed(reassembler, [(0, False, b"whole")]) == [(V4 + b"\0", b"whole")]
    assert feed(reassembler, [last]) == [(V4 + b"\0", bytes(16))]
    assert not drops


@pytest.mark.parametrize(
    ("piece", "cause"),
    [
        ((0, True, b""), "fragment_empty"),
        ((8, False, b""), "fragment_empty"),
        ((0, True, bytes(9)), "fragment_misaligned"),
        ((65528, False, bytes(8)), "fragment_oversize"),
    ],
)
def test_hopeless_fragments_leave_no_trace(piece: Piece, cause: str) -> None:
    reassembler, drops = make()
    assert not feed(reassembler, [piece])
    assert drops == {cause: 1}
    assert (len(reassembler), reassembler.next_deadline()) == (0, None)


@pytest.mark.parametrize(("family", "header"), [(IPV4, V4), (IPV6, V6)], ids=["v4", "v6"])
def test_the_largest_datagram_is_what_the_length_field_can_say(family: IpFamily, header: bytes) -> None:
    largest = 65535 - (20 if family is IPV4 else 0)
    for size, fits in ((largest, True), (largest + 1, False)):
        reassembler, drops = make()
        whole = [reassembler.add(KEY, header, *piece, 0.0) for piece in cut(bytes(size), 1400)][-1]
        assert (whole == (header, bytes(size))) is fits
        assert drops["fragment_oversize"] == (not fits)


def test_a_first_header_with_options_counts_when_the_rest_came_with_less_of_it() -> None:
    reassembler, drops = make()
    pieces = cut(bytes(65535 - 20), 1400)
    for piece in pieces[1:]:
        reassembler.add(KEY, V4, *piece, 0.0)
    assert reassembler.add(KEY, V4 + bytes(40), *pieces[0], 0.0) is None
    assert drops == {"fragment_oversize": 1}


def test_time_exceeded_quotes_the_first_fragment_only_if_it_came__rfc8200_4_5() -> None:
    reassembler, drops = make(timeout=30.0)
    reassembler.add(b"a", V4, 0, True, b"firstone", 1.0)
    reassembler.add(b"b", V4, 8, True, b"nofirst!", 2.0)
    reassembler.add(b"a", V4, 16, True, bytes(8), 20.0)
    reassembler.add(b"c", V4, 0, True, bytes(8), 3.0)
    reassembler.add(b"c", V4, 0, True, bytes(16), 3.0)
    assert reassembler.next_deadline() == 31.0
    assert reassembler.expire(30.9) == []
    assert reassembler.expire(31.0) == [V4 + b"firstone"]
    assert reassembler.next_deadline() == 32.0
    assert reassembler.expire(40.0) == [], "no first fragment, and overlaps are silent"
    assert (len(reassembler), reassembler.used, reassembler.next_deadline()) == (0, 0, None)
    assert drops == {"fragment_timeout": 2, "fragment_overlap": 1}


def test_what_is_kept_is_a_copy_of_a_reused_buffer() -> None:
    reassembler, _ = make()
    buffer = bytearray(b"headfirstone")
    buffer[0] = 0x45
    reassembler.add(KEY, memoryview(buffer)[:4], 0, True, memoryview(buffer)[4:], 0.0)
    buffer[:] = bytes(12)
    assert reassembler.add(KEY, V4, 8, False, b"!", 0.0) == (b"\x45ead", b"firstone!")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("plain", "at"), [(V4, 0), (V6, 4)], ids=["v4", "v6"])
def test_a_mark_on_any_fragment_is_on_the_datagram__rfc3168_5_3(plain: bytes, at: int, first: int) -> None:
    capable = plain[:1] + bytes((2 << at,)) + plain[2:]
    congested = plain[:1] + bytes((3 << at,)) + plain[2:]
    headers = [congested, capable] if first else [capable, congested]
    reassembler, _ = make()
    assert reassembler.add(KEY, headers[0], 0, True, bytes(8), 0.0) is None
    assert reassembler.add(KEY, headers[1], 8, False, bytes(8), 0.0) == (congested, bytes(16))
