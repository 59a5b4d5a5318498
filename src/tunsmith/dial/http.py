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

from tunsmith.dial.base import Datagrams
from tunsmith.dial.conversation import Conversation
from tunsmith.dial.proxy import ProxyDialer
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialTimeout,
    DialUnreachable,
    DialUnsupported,
    ProxyAuthFailed,
    ProxyError,
    Reach,
)
from tunsmith.flow import Target
from tunsmith.wire import http_connect
from tunsmith.wire.http_connect import Response

_REFUSED = frozenset({"connection_refused", "connection_terminated"})
_NETWORK = frozenset({"destination_ip_unroutable"})
_HOST = frozenset({"dns_error", "dns_timeout", "destination_not_found", "destination_unavailable"})
_PROHIBITED = frozenset({"destination_ip_prohibited", "connection_limit_reached", "http_request_denied"})
_TIMEOUT = frozenset({"connection_timeout"})


class HttpDialer(ProxyDialer[Response]):
    """One HTTP proxy."""

    scheme = "http"
    carries_udp = False

    async def start(self) -> None:
        """Check that something listens. Credentials show only with a destination: see `open_stream`."""
        with await self._greeted():
            pass

    async def open_datagrams(self, family: int) -> Datagrams:
        """Raises DialUnsupported."""
        raise DialUnsupported(f"{self.label}: an HTTP proxy carries no UDP")

    def close(self) -> None:
        """Nothing to release."""

    async def _greet(self, talk: Conversation) -> None:
        """HTTP begins with the request."""

    def _request(self, target: Target) -> bytes:
        known = self._credentials
        return http_connect.request(target.host, target.port, (known.user, known.password) if known else None)

    def _parse_answer(self, heard: bytearray) -> tuple[Response, int] | None:
        return http_connect.parse_response(heard)

    def _expect_success(self, answer: Response, what: object) -> None:
        if not 200 <= answer.status < 300:
            raise self._failure(answer, what)

    def _failure(self, response: Response, what: object) -> DialError:
        status, cause = response.status, response.proxy_error
        said = f"{what}: {self.label} says {status} {cause or response.reason}".rstrip()
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
