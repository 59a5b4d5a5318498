"""What all proxies have in common. A flow is a connection of its own to the proxy, on which we say who we are and
where we want to go; what follows the proxy's answer is the destination's.

Two limits of time: one for what the proxy does by itself, where silence is its own fault (ProxySilent), and one
in which it has to reach the destination (DialTimeout).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import ClassVar, Generic, TypeVar

from tunsmith.dial.base import Pings, Stream
from tunsmith.dial.conversation import Conversation, patience
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.escape import Escape
from tunsmith.dial.resolve import Resolver
from tunsmith.dial.tcp import Connector
from tunsmith.errors import DialUnreachable, DialUnsupported, ProxySilent, WireError
from tunsmith.flow import Target

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for the proxy itself: its TCP connection, greeting and authentication."""
ANSWER_TIMEOUT = 30.0
"""Seconds for the answer to a request, in which it has to reach the destination."""

Answer = TypeVar("Answer")


class ProxyDialer(ABC, Generic[Answer]):
    """One proxy; names go to it as names. `Answer` is what it says to a request."""

    scheme: ClassVar[str]
    """Of its URL."""
    wants_names = True
    carries_ping = False

    def __init__(
        self,
        address: Target,
        credentials: Credentials | None = None,
        escape: Escape | None = None,
        resolver: Resolver | None = None,
        *,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.label = f"{self.scheme}://{address}"
        self._address = address
        self._credentials = credentials
        self._escape = escape
        self._resolver = resolver or Resolver()
        self._connector = Connector(escape, self._resolver)
        self._handshake_timeout = handshake_timeout
        self._answer_timeout = answer_timeout

    async def open_stream(self, target: Target) -> Stream:
        """See `Dialer.open_stream`."""
        try:
            request = self._request(target)
        except WireError as error:
            raise DialUnreachable(f"{target}: {error}") from None
        with await self._greeted() as talk:
            async with patience(self._answer_timeout, f"{self.label}: the proxy did not reach {target}"):
                await talk.say(request)
                answer = await talk.hear(self._parse_answer)
            self._expect_success(answer, target)
            return talk.hand_over()

    def begin(self, target: Target) -> Awaitable[Stream]:
        """See `Dialer.begin`."""
        return self.open_stream(target)

    def open_pings(self, family: int) -> Pings:
        """Raises DialUnsupported."""
        raise DialUnsupported(f"{self.label} carries no ping")

    async def _greeted(self) -> Conversation:
        """A new connection on which the proxy knows who we are. Raises DialError."""
        async with patience(self._handshake_timeout, f"{self.label}: the proxy did not answer", ProxySilent):
            talk = await Conversation.open(self._connector, self._address, self.label)
            try:
                await self._greet(talk)
            except BaseException:
                talk.close()
                raise
            return talk

    @abstractmethod
    async def _greet(self, talk: Conversation) -> None:
        """Say what comes before any request. Raises ProxyError."""

    @abstractmethod
    def _request(self, target: Target) -> bytes:
        """The request for a connection to `target`. Raises WireError where the protocol cannot carry it."""

    @abstractmethod
    def _parse_answer(self, heard: bytearray) -> tuple[Answer, int] | None:
        """The answer at the beginning of `heard` and its length; None where there is more to come."""

    @abstractmethod
    def _expect_success(self, answer: Answer, what: object) -> None:
        """Raises the DialError that `answer`, to a request for `what`, stands for."""
