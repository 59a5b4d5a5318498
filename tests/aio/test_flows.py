"""listen_any: connections to anywhere, before they are accepted."""

from __future__ import annotations

import asyncio
import errno

import pytest

import tunsmith
from tests.aio.pair import ELSEWHERE, LEFT, RIGHT, Pair, two_stacks
from tunsmith.aio.flows import PATIENCE
from tunsmith.stack.config import StackConfig
from tunsmith.stack.tcp.segments import bare_segment
from tunsmith.testing.clock import ManualClock
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4
from tunsmith.wire.tcp import RST
from tunsmith.wire.vnet import VNET_HDR_LEN

families = pytest.mark.parametrize("family", [4, 6])


@families
async def test_a_flow_knows_where_it_wanted_to_go_and_is_accepted(pair: Pair, family: int) -> None:
    left, right = pair
    async with right.listen_any() as flows:
        opening = asyncio.create_task(
            left.open_connection(ELSEWHERE[family], 443, local=(LEFT[family], 1234))
        )
        flow = await anext(flows)
        assert flow.source[:2] == (LEFT[family], 1234)
        assert flow.destination[:2] == (ELSEWHERE[family], 443)
        assert not opening.done()  # nothing has been answered yet
        reader, writer = await flow.accept()
        far_reader, far_writer = await opening
        assert writer.get_extra_info("sockname")[:2] == (ELSEWHERE[family], 443)
        far_writer.write(b"hello")
        assert await reader.read(10) == b"hello"
        writer.write(b"you, too")
        writer.close()
        assert await far_reader.read() == b"you, too"
        far_writer.close()


@families
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda flow: flow.refuse(), errno.ECONNREFUSED),
        (lambda flow: flow.unreachable(), errno.EHOSTUNREACH),
        (lambda flow: flow.unreachable(IcmpError.NETWORK), errno.ENETUNREACH),
        (lambda flow: flow.unreachable(IcmpError.PORT), errno.ECONNREFUSED),
    ],
)
async def test_a_flow_is_refused_for_a_reason(pair: Pair, family: int, answer, code: int) -> None:
    left, right = pair
    async with right.listen_any() as flows:
        opening = asyncio.create_task(left.open_connection(ELSEWHERE[family], 443))
        answer(await anext(flows))
        with pytest.raises(OSError, match=r".") as raised:
            await opening
        assert raised.value.errno == code


async def test_a_flow_that_is_dropped_asks_again_and_is_another() -> None:
    async with two_stacks(StackConfig(initial_rto=0.01)) as (left, right), right.listen_any() as flows:
        opening = asyncio.create_task(left.open_connection(ELSEWHERE[4], 443))
        (await anext(flows)).drop()
        again = await anext(flows)  # the SYN, retransmitted
        again.refuse()
        with pytest.raises(ConnectionRefusedError):
            await opening


async def test_servers_come_first_and_particular_ports_before_any(pair: Pair) -> None:
    left, right = pair
    server_saw = asyncio.Event()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_saw.set()
        writer.close()

    await right.start_server(serve, RIGHT[4], 80)
    async with right.listen_any() as everything, right.listen_any(443) as https:
        _, writer = await left.open_connection(RIGHT[4], 80)
        await server_saw.wait()
        writer.close()
        for flows, port in ((https, 443), (everything, 8443)):
            opening = asyncio.create_task(left.open_connection(ELSEWHERE[4], port))
            (await anext(flows)).refuse()
            with pytest.raises(ConnectionRefusedError):
                await opening
        with pytest.raises(OSError, match="in use"):
            right.listen_any(443)


async def test_without_listeners_only_ours_are_refused_others_unheard(pair: Pair) -> None:
    left, right = pair
    with pytest.raises(ConnectionRefusedError):
        await left.open_connection(RIGHT[4], 80)
    with pytest.raises(TimeoutError):
        await left.open_connection(ELSEWHERE[4], 80, timeout=0.01)
    assert right.drops["not_our_address"] == 1


async def test_those_nobody_took_are_refused_in_the_end(pair: Pair) -> None:
    left, right = pair
    flows = right.listen_any()
    opening = asyncio.create_task(left.open_connection(ELSEWHERE[4], 443))
    taken = await anext(flows)
    flows.close()
    with pytest.raises(ConnectionRefusedError):
        await opening
    with pytest.raises(StopAsyncIteration):
        await anext(flows)
    with pytest.raises(ConnectionAbortedError):
        await taken.accept()


async def test_more_than_the_backlog_are_ignored_and_counted(pair: Pair) -> None:
    left, right = pair
    async with right.listen_any(backlog=2) as flows:
        opening = [asyncio.create_task(left.open_connection(ELSEWHERE[4], 443)) for _ in range(5)]
        first, second = await anext(flows), await anext(flows)
        assert right.drops["listen_overflow"] == 3
        first.refuse()
        second.refuse()
        for task in opening:
            task.cancel()
        assert len(await asyncio.gather(*opening, return_exceptions=True)) == 5


async def test_flows_that_nobody_answers_are_forgotten_in_time() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    clock = ManualClock()
    left = tunsmith.Stack(near, [f"{LEFT[4]}/24"])
    right = tunsmith.Stack(far, [f"{RIGHT[4]}/24"], clock=clock)
    left.start()
    right.start()
    try:
        flows = right.listen_any(backlog=1)
        first = asyncio.create_task(left.open_connection(ELSEWHERE[4], 443))
        forgotten = await anext(flows)
        assert RIGHT[4] not in repr(forgotten)
        assert ELSEWHERE[4] in repr(forgotten)
        clock.advance(PATIENCE)
        second = asyncio.create_task(left.open_connection(ELSEWHERE[4], 444))
        assert (await anext(flows)).destination == (ELSEWHERE[4], 444)
        with pytest.raises(ConnectionAbortedError):
            await forgotten.accept()
        for task in (first, second):
            task.cancel()
        flows.close()
        flows.close()
    finally:
        await left.close(linger=0)
        await right.close(linger=0)


async def test_flows_whose_client_gave_up_are_passed_over(pair: Pair) -> None:
    left, right = pair
    async with right.listen_any() as flows:
        pure = left.pure.connect(bytes((10, 7, 0, 1)), 1000, bytes((203, 0, 113, 5)), 443, 0.0)
        await left.ping(RIGHT[4])
        (request,) = right.pure.requests.values()
        reset = bare_segment(IPV4, request.key, request.isn + 1, 0, RST)
        right.pure.receive(reset[VNET_HDR_LEN:], 0.0, vnet=reset[:VNET_HDR_LEN])
        pure.abort(0.0)
        opening = asyncio.create_task(left.open_connection(ELSEWHERE[4], 444))
        flow = await anext(aiter(flows))
        assert flow.destination == (ELSEWHERE[4], 444)
        assert not flow.cancelled
        flow.refuse()
        with pytest.raises(ConnectionRefusedError):
            await opening
