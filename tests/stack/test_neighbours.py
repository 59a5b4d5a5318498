from __future__ import annotations

from collections import Counter

import pytest

from tunsmith.stack import neighbours
from tunsmith.stack.deadlines import Deadlines
from tunsmith.stack.neighbours import NeighbourCache, State
from tunsmith.stack.output import Parts

HERE, THERE, ELSEWHERE = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x0a\0\0\3"
MAC, OTHER_MAC = b"\x02\0\0\0\0\2", b"\x02\0\0\0\0\3"


class Rig:
    """A cache whose link writes down what it is asked for."""

    def __init__(self, limit: int = neighbours.ENTRIES) -> None:
        self.deadlines = Deadlines()
        self.drops: Counter[str] = Counter()
        self.cache = NeighbourCache(self, self.deadlines, self.drops, limit)
        self.asked: list[tuple[bytes, bytes | None]] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.given_up: list[tuple[bytes, bool]] = []

    def solicit(self, address: bytes, mac: bytes | None) -> None:
        self.asked.append((address, mac))

    def transmit(self, parts: Parts, mac: bytes) -> None:
        self.sent.append((b"".join(parts), mac))

    def unreachable(self, frame: bytes, forwarded: bool) -> None:
        self.given_up.append((frame, forwarded))

    def state(self, address: bytes = THERE) -> State | None:
        entry = self.cache.entries.get(address)
        return None if entry is None else entry.state

    def run(self, until: float) -> list[float]:
        """Let time pass; returns when something was due."""
        dues = []
        while (due := self.deadlines.earliest()) is not None and due <= until:
            dues.append(due)
            self.deadlines.run(due)
        return dues

    def reach(self, now: float = 0.0, address: bytes = THERE) -> None:
        self.cache.send(address, (b"hello",), now)
        self.cache.on_advertisement(address, MAC, now, solicited=True, override=True)


def test_first_packet_waits_for_the_answer__rfc4861_7_2_2() -> None:
    rig = Rig()
    rig.cache.send(THERE, (b"one", b" two"), 0.0)
    rig.cache.send(THERE, (b"three",), 0.1)
    assert (rig.state(), rig.asked, rig.sent) == (State.INCOMPLETE, [(THERE, None)], [])
    rig.cache.on_advertisement(THERE, MAC, 0.2, solicited=True, override=True)
    assert (rig.state(), rig.sent) == (State.REACHABLE, [(b"one two", MAC), (b"three", MAC)])
    rig.cache.send(THERE, (b"four",), 0.3)
    assert rig.sent[2:] == [(b"four", MAC)]


def test_no_answer_is_unreachable_after_three_questions__rfc4861_7_2_2() -> None:
    rig = Rig()
    rig.cache.send(THERE, (b"ours",), 10.0)
    rig.cache.send(THERE, (b"theirs",), 10.0, forwarded=True)
    assert rig.run(12.9) == [11.0, 12.0]
    assert (rig.asked, rig.given_up) == ([(THERE, None)] * 3, [])
    assert rig.run(13.0) == [13.0]
    assert rig.given_up == [(b"ours", False), (b"theirs", True)]
    rig.cache.send(THERE, (b"again",), 13.5)
    assert (rig.given_up[2:], len(rig.asked), rig.state()) == ([(b"again", False)], 3, State.FAILED)
    assert rig.run(20.0) == [14.0]
    assert rig.state() is None
    rig.cache.send(THERE, (b"later",), 20.0)
    assert (len(rig.asked), rig.state()) == (4, State.INCOMPLETE)


def test_failed_neighbour_that_speaks_is_found() -> None:
    rig = Rig()
    rig.cache.send(THERE, (b"lost",), 0.0)
    rig.run(3.0)
    rig.cache.on_advertisement(THERE, MAC, 3.5, solicited=False, override=True)
    assert rig.state() is State.STALE
    assert rig.run(100.0) == []


def test_reachable_gets_stale_and_is_asked_again_when_it_is_used__rfc4861_7_3_3() -> None:
    rig = Rig()
    rig.reach()
    assert rig.run(1000.0) == [30.0]
    assert rig.state() is State.STALE
    rig.cache.send(THERE, (b"packet",), 1000.0)
    assert (rig.state(), rig.sent[-1]) == (State.DELAY, (b"packet", MAC))
    assert rig.run(1007.5) == [1005.0, 1006.0, 1007.0]
    assert (rig.state(), rig.asked[1:]) == (State.PROBE, [(THERE, MAC)] * 3)
    rig.cache.send(THERE, (b"still",), 1007.5)
    assert rig.sent[-1] == (b"still", MAC)
    rig.cache.on_advertisement(THERE, MAC, 1007.9, solicited=True, override=False)
    assert rig.state() is State.REACHABLE


def test_neighbour_that_went_away_is_forgotten__rfc4861_7_3_3() -> None:
    rig = Rig()
    rig.reach()
    rig.run(30.0)
    rig.cache.send(THERE, (b"packet",), 100.0)
    assert rig.run(1000.0) == [105.0, 106.0, 107.0, 108.0]
    assert rig.state() is None


def test_advertisement_nobody_asked_for_makes_no_entry__rfc4861_7_2_5() -> None:
    rig = Rig()
    rig.cache.on_advertisement(THERE, MAC, 0.0, solicited=True, override=True)
    assert rig.cache.entries == {}


def test_advertisement_without_address_finds_nobody__rfc4861_7_2_5() -> None:
    rig = Rig()
    rig.cache.send(THERE, (b"packet",), 0.0)
    rig.cache.on_advertisement(THERE, None, 0.1, solicited=True, override=True)
    assert rig.state() is State.INCOMPLETE


@pytest.mark.parametrize(
    ("mac", "solicited", "override", "state", "at"),
    [
        (OTHER_MAC, True, False, State.STALE, MAC),
        (OTHER_MAC, False, False, State.STALE, MAC),
        (OTHER_MAC, True, True, State.REACHABLE, OTHER_MAC),
        (OTHER_MAC, False, True, State.STALE, OTHER_MAC),
        (MAC, False, True, State.REACHABLE, MAC),
        (MAC, True, False, State.REACHABLE, MAC),
        (None, True, True, State.REACHABLE, MAC),
        (None, False, True, State.REACHABLE, MAC),
    ],
)
def test_advertisement_about_somebody_reachable__rfc4861_7_2_5(mac, solicited, override, state, at) -> None:
    rig = Rig()
    rig.reach()
    rig.cache.on_advertisement(THERE, mac, 1.0, solicited=solicited, override=override)
    assert (rig.state(), rig.cache.entries[THERE].mac) == (state, at)


def test_contradiction_does_not_move_somebody_stale__rfc4861_7_2_5() -> None:
    rig = Rig()
    rig.cache.on_sight(THERE, MAC, 0.0)
    rig.cache.on_advertisement(THERE, OTHER_MAC, 1.0, solicited=True, override=False)
    assert (rig.state(), rig.cache.entries[THERE].mac) == (State.STALE, MAC)


def test_whoever_asks_us_is_known__rfc4861_7_2_3() -> None:
    rig = Rig()
    rig.cache.on_sight(THERE, MAC, 0.0)
    assert rig.state() is State.STALE
    rig.cache.send(THERE, (b"answer",), 0.0)
    assert (rig.sent, rig.asked, rig.state()) == ([(b"answer", MAC)], [], State.DELAY)
    rig.cache.on_sight(THERE, MAC, 1.0)
    assert rig.state() is State.DELAY
    rig.cache.on_sight(THERE, OTHER_MAC, 2.0)
    assert (rig.state(), rig.cache.entries[THERE].mac) == (State.STALE, OTHER_MAC)


def test_whoever_asks_us_gets_what_waits_for_him() -> None:
    rig = Rig()
    rig.cache.send(THERE, (b"packet",), 0.0)
    rig.cache.on_sight(THERE, MAC, 0.1)
    assert (rig.sent, rig.state()) == ([(b"packet", MAC)], State.STALE)


def test_queue_of_a_neighbour_is_bounded_and_the_oldest_goes__rfc4861_7_2_2() -> None:
    rig = Rig()
    frames = [bytes((number,)) * 60_000 for number in range(5)]
    for frame in frames:
        rig.cache.send(THERE, (frame,), 0.0)
    rig.reach()
    assert [frame for frame, _ in rig.sent] == [*frames[2:], b"hello"]
    assert rig.drops == {"neighbour_queue": 2}


def test_all_queues_together_are_bounded() -> None:
    rig = Rig()
    for number in range(100):
        for _ in range(3):
            rig.cache.send(number.to_bytes(4, "big"), (bytes(60_000),), 0.0)
    waiting = sum(entry.pending_bytes for entry in rig.cache.entries.values())
    assert waiting <= neighbours.PENDING_TOTAL
    assert rig.drops["neighbour_queue"] == 300 - waiting // 60_000
    rig.run(3.0)
    assert len(rig.given_up) == waiting // 60_000
    for number in range(100):
        rig.cache.send(number.to_bytes(4, "big"), (b"x",), 10.0)
    assert rig.drops["neighbour_queue"] == 300 - waiting // 60_000


def test_scan_does_not_push_out_those_that_exist__rfc6583() -> None:
    rig = Rig(limit=8)
    for number in range(4):
        rig.reach(address=bytes((10, 0, 0, number)))
    for number in range(100):
        rig.cache.send(bytes((10, 0, 1, number)), (b"scan",), 0.0)
    assert len(rig.cache.entries) == 8
    assert all(rig.state(bytes((10, 0, 0, number))) is State.REACHABLE for number in range(4))
    assert rig.drops == {"neighbour_limit": 96}


def test_oldest_of_those_that_exist_makes_room() -> None:
    rig = Rig(limit=4)
    for number in range(6):
        rig.reach(address=bytes((10, 0, 0, number)))
    assert [address[3] for address in rig.cache.entries] == [2, 3, 4, 5]
    assert rig.run(1000.0) == [30.0]
    assert {entry.state for entry in rig.cache.entries.values()} == {State.STALE}
