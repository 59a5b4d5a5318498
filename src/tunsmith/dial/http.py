"""HTTP proxies: CONNECT (RFC 9110 §9.3.6) with Basic authentication. TCP only; names go as names.

What a proxy answers becomes what the application sees. Where it names the cause in Proxy-Status (RFC 9209),
that counts; else the status does:

    2xx             connected
    407             ProxyAuthFailed
    401 403 405 451 DialProhibited
    404 500 502 503 DialUnreachable, host: proxies use them for refused, unknown and unreachable alike, and
                    of these "cannot get there" is the one that is never a lie
    408 504         DialTimeout
    anything else   ProxyError
"""

from __future__ import annotations

from collections.abc import Awaitable

from tunsmith.dial.base import Datagrams, Pings, Stream
from tunsmith.dial.conversation import Conversation, patience
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.interface import Interface
from tunsmith.dial.tcp import Connector
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialTimeout,
    DialUnreachable,
    DialUnsupported,
    ProxyAuthFailed,
    ProxyError,
    ProxySilent,
    Reach,
    WireError,
)
from tunsmith.flow import Target
from tunsmith.wire import http_connect
from tunsmith.wire.http_connect import Response

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connection to the proxy."""
ANSWER_TIMEOUT = 30.0
"""Seconds for its answer, in which it has to reach the destination."""

_REFUSED = frozenset({"connection_refused", "connection_terminated"})
_NETWORK = frozenset({"destination_ip_unroutable"})
_HOST = frozenset({"dns_error", "dns_timeout", "destination_not_found", "destination_unavailable"})
_PROHIBITED = frozenset({"destination_ip_prohibited", "connection_limit_reached", "http_request_denied"})
_TIMEOUT = frozenset({"connection_timeout"})


class HttpDialer:
    """One HTTP proxy."""

    __slots__ = ("_address", "_answer_timeout", "_connect_timeout", "_connector", "_credentials", "label")

    wants_names = True
    carries_udp = False
    carries_ping = False

    def __init__(
        self,
        address: Target,
        credentials: Credentials | None = None,
        interface: Interface | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.label = f"http://{address}"
        self._address = address
        self._credentials = credentials
        self._connector = Connector(interface)
        self._connect_timeout = connect_timeout
        self._answer_timeout = answer_timeout

    async def start(self) -> None:
        """Check that something listens. Credentials show only with a destination: see `open_stream`."""
        with await self._connected():
            pass

    async def open_stream(self, target: Target) -> Stream:
        """CONNECT to `target`; see `Dialer.open_stream`."""
        known = self._credentials
        try:
            request = http_connect.request(
                target.host, target.port, (known.user, known.password) if known else None
            )
        except WireError as error:
            raise DialUnreachable(f"{target}: {error}") from None
        with await self._connected() as talk:
            async with patience(self._answer_timeout, f"{self.label}: the proxy did not reach {target}"):
                await talk.say(request)
                response = await talk.hear(http_connect.parse_response)
            if not 200 <= response.status < 300:
                raise self._failure(response, target)
            return talk.hand_over()

    def begin(self, target: Target) -> Awaitable[Stream]:
        """See `Dialer.begin`."""
        return self.open_stream(target)

    async def open_datagrams(self, family: int) -> Datagrams:
        """Raises DialUnsupported."""
        raise DialUnsupported(f"{self.label}: an HTTP proxy carries no UDP")

    def open_pings(self, family: int) -> Pings:
        """Raises DialUnsupported."""
        raise DialUnsupported(f"{self.label} carries no ping")

    def close(self) -> None:
        """Nothing to release."""

    async def _connected(self) -> Conversation:
        async with patience(self._connect_timeout, f"{self.label}: the proxy did not answer", ProxySilent):
            return await Conversation.open(self._connector, self._address, self.label)

    def _failure(self, response: Response, target: Target) -> DialError:
        status, cause = response.status, response.proxy_error
        said = f"{target}: {self.label} says {status} {cause or response.reason}".rstrip()
        if status == 407:
            hint = (
                "does not accept this user name and password"
                if self._credentials
                else ("wants a user name and password: http://USER:PASSWORD@...")
            )
            return ProxyAuthFailed(f"{self.label}: the proxy {hint}")
        if cause in _REFUSED:
            return DialRefused(said)
        if cause in _NETWORK:
            return DialUnreachable(said, Reach.NETWORK)
        if cause in _PROHIBITED or (not cause and status in (401, 403, 405, 451)):
            return DialProhibited(said)
        if cause in _TIMEOUT or (not cause and status in (408, 504)):
            return DialTimeout(said)
        if cause in _HOST or status in (404, 500, 502, 503):
            return DialUnreachable(said, Reach.HOST)
        return ProxyError(said)
