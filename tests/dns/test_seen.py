"""Names remembered for people."""

from __future__ import annotations

from tunsmith.dns.seen import SeenNames


def test_the_latest_name_of_an_address_counts():
    seen = SeenNames()
    seen.learn("a.test", [b"\1\2\3\4", b"\1\2\3\5"])
    seen.learn("b.test", [b"\1\2\3\4"])
    assert seen.name_of(b"\1\2\3\4") == "b.test"
    assert seen.name_of(b"\1\2\3\5") == "a.test"
    assert seen.name_of(b"\1\2\3\6") is None


def test_addresses_are_bounded_the_oldest_go_first():
    seen = SeenNames(limit=3)
    for n in range(5):
        seen.learn(f"{n}.test", [bytes((10, 0, 0, n))])
        seen.learn("kept.test", [b"\1\1\1\1"])
    assert seen.name_of(b"\1\1\1\1") == "kept.test"
    assert [seen.name_of(bytes((10, 0, 0, n))) for n in range(5)] == [None, None, None, "3.test", "4.test"]
