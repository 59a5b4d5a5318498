from __future__ import annotations

import asyncio
import errno

import pytest

from tests.aio.pair import ELSEWHERE, NOBODY, RIGHT, Pair, two_stacks
from tunsmith.aio.pings import AT_ONCE
from tunsmith.stack.events import Echo
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4

families = pytest.mark.parametrize("family", [4, 6])


@families
@pytest.mark.parametrize("size", [0, 56, 5000])
async def test_a_ping_is_answered(pair: Pair, family: int, size: int) -> None:
    assert 0 < await pair[0].ping(RIGHT[family], size=size) < 1


@families
async def test_silence_is_a_timeout(pair: Pair, family: int) -> None:
    with pytest.raises(TimeoutError) as raised:
        await pair[0].ping(NOBODY[family], timeout=0.01)
    assert raised.value.errno == errno.ETIMEDOUT


@families
async def test_a_program_answers_instead(pair: Pair, family: int) -> None:
    left, right = pair
    async with right.open_ping_endpoint() as endpoint:
        with pytest.raises(TimeoutError):
            await left.ping(RIGHT[family], timeout=0.01, ttl=17)
        request = await anext(endpoint)
        assert RIGHT[family] in repr(request)
        assert (request.destination, request.ttl, len(request.data)) == (RIGHT[family], 17, 56)
        with pytest.raises(OSError, match="in use"):
            right.open_ping_endpoint()
    assert await left.ping(RIGHT[family])


@families
async def test_any_destination_is_answered_or_said_to_be_unreachable(pair: Pair, family: int) -> None:
    left, right = pair
    answers = iter(["reply", IcmpError.HOST, IcmpError.NETWORK])

    async def answer() -> None:
        async for request in endpoint:
            assert request.destination == ELSEWHERE[family]
            what = next(answers)
            if isinstance(what, IcmpError):
                request.unreachable(what)
            else:
                request.reply()

    async with right.open_ping_endpoint(any_destination=True) as endpoint, asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        assert await left.ping(ELSEWHERE[family])
        for code in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            with pytest.raises(OSError, match=r"unreachable|No route") as raised:
                await left.ping(ELSEWHERE[family])
            assert raised.value.errno == code
        endpoint.close()
    assert right.pure.addresses is not None


async def test_pings_beyond_the_queue_are_lost_and_counted(pair: Pair) -> None:
    left, right = pair
    async with right.open_ping_endpoint(queue=1) as endpoint:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await left.ping(RIGHT[4], timeout=0.001)
        assert endpoint.lost == 2


async def test_pings_under_way_are_bounded(pair: Pair) -> None:
    left, _ = pair
    under_way = [asyncio.create_task(left.ping(NOBODY[4], timeout=None)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="wait for an answer") as raised:
        await left.ping(NOBODY[4])
    assert raised.value.errno == errno.ENOBUFS
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    assert await left.ping(RIGHT[4])


async def test_answers_to_nobodys_pings_are_ignored(pair: Pair) -> None:
    left, right = pair
    echo = Echo(IPV4, bytes((10, 7, 0, 1)), bytes((10, 7, 0, 2)), 1, 2, 64, b"")
    right.pure.send_echo_reply(echo)
    assert await left.ping(RIGHT[4])


async def test_an_endpoint_ends_with_its_stack() -> None:
    async with two_stacks() as (left, _):
        endpoint = left.open_ping_endpoint()
        await left.close()
        assert [request async for request in endpoint] == []


@families
@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"size": 65508}, errno.EMSGSIZE),
        ({"size": -1}, errno.EMSGSIZE),
        ({"ttl": 0}, errno.EINVAL),
        ({"ttl": 256}, errno.EINVAL),
    ],
)
async def test_what_fits_in_no_packet_is_refused(
    pair: Pair, family: int, wish: dict[str, int], code: int
) -> None:
    left, _ = pair
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await left.ping(RIGHT[family], **wish)  # type: ignore[arg-type]
    assert caught.value.errno == code
    assert await left.ping(RIGHT[family], size=65507) >= 0
