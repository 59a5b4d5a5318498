from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.stack.ports import EphemeralPorts, KeyedRandom

HERE, THERE = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


@given(first=st.integers(1, 65535), count=st.integers(1, 50), seed=st.integers())
def test_every_port_of_the_range_is_found_and_no_other(first: int, count: int, seed: int) -> None:
    last = min(first + count - 1, 65535)
    ports = EphemeralPorts(first, last, b"secret", Random(seed).randbytes)
    taken: set[int] = set()
    while (port := ports.choose(HERE, THERE, 80, taken.__contains__)) is not None:
        assert port not in taken
        taken.add(port)
    assert taken == set(range(first, last + 1))


def test_ports_towards_one_destination_say_nothing_about_another__rfc6056_3_3_3() -> None:
    """Distances between consecutive ports to different destinations are all over the range."""
    ports = EphemeralPorts(1024, 65535, b"secret", KeyedRandom(b"secret"))
    found = [ports.choose(HERE, THERE, number, lambda port: False) or 0 for number in range(1, 200)]
    assert len(set(found)) > 190
    assert max(found) - min(found) > 60_000


def test_ports_towards_one_destination_are_not_used_again_for_long() -> None:
    ports = EphemeralPorts(1024, 65535, b"secret", KeyedRandom(b"secret"))
    found = [ports.choose(HERE, THERE, 80, lambda port: False) for _ in range(4000)]
    assert len(set(found)) == 4000


def test_random_bytes_out_of_a_secret() -> None:
    one, two = KeyedRandom(b"one"), KeyedRandom(b"two")
    assert one(8) != two(8)
    assert one(8) != KeyedRandom(b"one")(8)
    assert len(one(3)) == 3
