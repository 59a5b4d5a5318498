"""Names to addresses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tunsmith.dial.resolve import AT_ONCE, Address, Resolver, family_of, interleave
from tunsmith.errors import DialUnreachable

V4: int = socket.AF_INET
V6: int = socket.AF_INET6


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("192.0.2.1", V4),
        ("::1", V6),
        ("::ffff:192.0.2.1", V6),
        ("a.test", None),
        ("1.2.3", None),
        ("192.0.2.256", None),
        ("fe80::1%eth0", None),
        ("", None),
    ],
)
def test_literals_are_told_from_names(host: str, family: int | None) -> None:
    assert family_of(host) == family


def test_families_alternate_from_the_preferred_one__rfc8305_4() -> None:
    found = [(V6, "a"), (V6, "b"), (V6, "c"), (V4, "d")]
    assert interleave(found) == [(V6, "a"), (V4, "d"), (V6, "b"), (V6, "c")]
    assert interleave([(V4, "a"), (V4, "b")]) == [(V4, "a"), (V4, "b")]


async def test_localhost_is_known() -> None:
    assert (V4, "127.0.0.1") in await Resolver().addresses("localhost")


async def test_a_failed_lookup_gives_its_turn_back() -> None:
    resolver = Resolver()
    for _ in range(AT_ONCE + 1):
        with pytest.raises(DialUnreachable):
            await resolver.addresses("a" * 70 + ".invalid")


class TwoAddresses(Resolver):
    """Every name has two addresses; what this machine says is not ours to choose."""

    __slots__ = ()

    async def _look_up(self, host: str) -> list[Address]:
        return [(V6, "::1"), (V4, "127.0.0.1")]


async def test_answer_is_remembered_until_it_fails() -> None:
    resolver = TwoAddresses()
    first = await resolver.addresses("two.test")
    assert await resolver.addresses("two.test") is first
    resolver.forget("two.test")
    assert await resolver.addresses("two.test") is not first


async def test_what_worked_comes_first_from_then_on() -> None:
    resolver = TwoAddresses()
    await resolver.addresses("two.test")
    resolver.prefer("two.test", "127.0.0.1")
    assert await resolver.addresses("two.test") == [(V4, "127.0.0.1"), (V6, "::1")]
    resolver.prefer("two.test", "192.0.2.1")
    resolver.prefer("unknown.test", "192.0.2.1")
    assert await resolver.addresses("two.test") == [(V4, "127.0.0.1"), (V6, "::1")]


async def test_lookups_of_one_name_are_one_and_survive_a_caller_that_leaves() -> None:
    resolver = Resolver()
    first = asyncio.ensure_future(resolver.addresses("localhost"))
    second = asyncio.ensure_future(resolver.addresses("localhost"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is await resolver.addresses("localhost")
    with pytest.raises(asyncio.CancelledError):
        await first
