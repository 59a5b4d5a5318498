"""One descriptor of the loop for those of all flows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import pytest_asyncio

from tests.inside import until
from tunsmith.relay.poller import IN, NOTHING, ROUNDS, Poller


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest_asyncio.fixture
async def poller(complaints: list[str]) -> AsyncIterator[Poller]:
    loop = asyncio.get_running_loop()

    def note(_: object, context: dict[str, Any]) -> None:
        complaints.append(context["message"])

    loop.set_exception_handler(note)
    with closing(Poller(loop)) as opened:
        yield opened


class Pipe:
    """A pipe with something in it, always."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.write(self.writer, b"x")
        self.calls = 0

    def called(self, _: int) -> None:
        self.calls += 1

    def fail(self, _: int) -> None:
        self.calls += 1
        raise ValueError("oops")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


async def test_fault_of_one_is_told_and_not_felt_by_the_others(poller: Poller, complaints: list[str]) -> None:
    with closing(Pipe()) as good, closing(Pipe()) as bad:
        poller.watch(bad.reader, IN, bad.fail)
        poller.watch(good.reader, IN, good.called)
        await until(lambda: good.calls > ROUNDS)
        assert complaints[0] == "a flow handler failed: ValueError('oops')"


async def test_what_one_look_finds_is_handled_between_begin_and_end() -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append("fault"))
    begin, end = lambda: told.append("begin"), lambda: told.append("end")
    with closing(Poller(loop, begin, end)) as poller, closing(Pipe()) as good, closing(Pipe()) as bad:
        poller.watch(bad.reader, IN, bad.fail)
        poller.watch(good.reader, IN, lambda _: told.append("handled"))
        await until(lambda: len(told) > 8)
    assert [sorted(told[1:3]), told[0], told[3]] == [["fault", "handled"], "begin", "end"]
    assert told[4] == "begin"


async def test_handler_that_always_fails_is_called_no_more(poller: Poller, complaints: list[str]) -> None:
    with closing(Pipe()) as good, closing(Pipe()) as bad:
        poller.watch(bad.reader, IN, bad.fail)
        poller.watch(good.reader, IN, good.called)
        await until(lambda: good.calls > 10 * ROUNDS)
        assert bad.calls == len(complaints) == ROUNDS
        assert complaints[-1].endswith("it is not called any more")
        poller.forget(bad.reader)


async def test_handler_that_recovers_stays(poller: Poller, complaints: list[str]) -> None:
    with closing(Pipe()) as pipe:

        def mostly_fail(_: int) -> None:
            pipe.calls += 1
            if pipe.calls % ROUNDS:
                raise ValueError

        poller.watch(pipe.reader, IN, mostly_fail)
        await until(lambda: pipe.calls > 5 * ROUNDS)
        poller.change(pipe.reader, IN, NOTHING)
