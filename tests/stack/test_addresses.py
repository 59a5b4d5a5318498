from __future__ import annotations

from collections import Counter

from tunsmith.stack.addresses import AddressBook, Standing
from tunsmith.stack.deadlines import Deadlines

OURS, OTHER = b"\x0a\0\0\1", b"\x0a\0\0\2"
MAC = b"\x02\0\0\0\0\2"


class Rig:
    def __init__(self, told: bool = True) -> None:
        self.deadlines = Deadlines()
        self.drops: Counter[str] = Counter()
        self.said: list[tuple[str, bytes]] = []
        self.conflicts: list[tuple[bytes, bytes]] = []
        on_conflict = (lambda address, mac: self.conflicts.append((address, mac))) if told else None
        self.book = AddressBook(self, self.deadlines, self.drops, on_conflict)

    def probe(self, address: bytes) -> None:
        self.said.append(("probe", address))

    def announce(self, address: bytes) -> None:
        self.said.append(("announce", address))


def test_address_is_probed_for_and_then_announced__rfc4862_5_4() -> None:
    rig = Rig()
    used: list[bytes] = []
    rig.book.on_usable = used.append
    rig.book.add(OURS, 5.0, probe=True)
    assert (rig.said, rig.book.usable, rig.book.tentative) == ([("probe", OURS)], set(), True)
    assert rig.deadlines.earliest() == 6.0
    rig.deadlines.run(6.0)
    assert (rig.said[1:], rig.book.usable, used) == ([("announce", OURS)], {OURS}, [OURS])
    assert not rig.book.tentative
    assert rig.deadlines.earliest() is None


def test_address_that_is_not_probed_for_is_announced_at_once() -> None:
    rig = Rig()
    rig.book.add(OURS, 5.0, probe=False)
    assert (rig.said, rig.book.usable) == ([("announce", OURS)], {OURS})


def test_tentative_address_that_somebody_has_is_never_used__rfc4862_5_4_5() -> None:
    rig = Rig()
    rig.book.add(OURS, 0.0, probe=True)
    rig.book.on_claim(OURS, MAC, 0.5)
    assert (rig.book.entries[OURS].standing, rig.book.tentative) == (Standing.DUPLICATE, False)
    assert rig.conflicts == [(OURS, MAC)]
    rig.deadlines.run(100.0)
    rig.book.on_claim(OURS, MAC, 101.0)
    assert (rig.said, rig.book.usable) == ([("probe", OURS)], set())
    assert rig.drops == {"address_conflict": 1}


def test_address_in_use_is_defended_once_in_ten_seconds__rfc5227_2_4() -> None:
    rig = Rig()
    rig.book.add(OURS, 0.0, probe=False)
    for now in (1.0, 2.0, 10.9, 11.0):
        rig.book.on_claim(OURS, MAC, now)
    assert rig.said == [("announce", OURS)] * 3
    assert len(rig.conflicts) == rig.drops["address_conflict"] == 4
    assert rig.book.usable == {OURS}


def test_claims_of_other_addresses_are_no_business_of_ours() -> None:
    rig = Rig(told=False)
    rig.book.add(OURS, 0.0, probe=True)
    rig.book.on_claim(OTHER, MAC, 0.0)
    assert not rig.drops
    rig.book.on_claim(OURS, MAC, 0.0)
    assert rig.drops == {"address_conflict": 1}
