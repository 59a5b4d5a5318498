"""The end of `up`: a signal, or something that happened, whichever comes first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(Exception):
    """It is time to end."""


class Stop:
    """From now on signals end us in order; one that our parent had us ignore (nohup) is ignored."""

    def __init__(self) -> None:
        self.why = ""
        """What ended us, for people; empty until then."""
        self.failed = False
        """It could not go on."""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in self._heard:
            self._loop.add_signal_handler(number, self.because, number.name)

    def because(self, why: str, *, failed: bool = False) -> None:
        """End now; `failed` where it is nobody's wish. What comes first counts."""
        if not self.why:
            self.why, self.failed = why, failed
        self._event.set()

    async def happens(self) -> None:
        """Return when it is time."""
        await self._event.wait()

    async def unless(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`. Raises Stopped, with `work` cancelled, where the end comes first."""
        task = asyncio.ensure_future(work)
        end = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            end.cancel()
            task.cancel()
            await asyncio.gather(task, end, return_exceptions=True)

    def close(self) -> None:
        """Signals do what they did before."""
        for number in self._heard:
            self._loop.remove_signal_handler(number)
