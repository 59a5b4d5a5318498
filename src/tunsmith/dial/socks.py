"""SOCKS5 proxies (RFC 1928, RFC 1929): CONNECT for TCP, UDP ASSOCIATE for UDP. Names go as names.

What a proxy answers becomes what the application sees:

    01 general failure          DialUnreachable, host   the proxy works, this destination does not
    02 not allowed              DialProhibited
    03 network unreachable      DialUnreachable, network
    04 host unreachable         DialUnreachable, host
    05 refused                  DialRefused
    06 TTL expired              DialUnreachable, expired
    07 command unsupported      DialUnsupported
    08 address type unsupported DialUnsupported
    anything else               ProxyError
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address

from tunsmith.dial.base import Datagrams
from tunsmith.dial.conversation import Conversation, patience
from tunsmith.dial.proxy import ProxyDialer
from tunsmith.dial.resolve import family_of
from tunsmith.dial.socks_udp import SocksDatagrams
from tunsmith.dial.udp import open_udp
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialUnreachable,
    DialUnsupported,
    ProxyAuthFailed,
    ProxyError,
    ProxySilent,
    Reach,
)
from tunsmith.flow import Target
from tunsmith.wire import socks5
from tunsmith.wire.socks5 import Command, Method, Reply

Answer = tuple[int, socks5.Address]
"""Reply code, and the address that goes with it."""


class SocksDialer(ProxyDialer[Answer]):
    """One SOCKS5 proxy."""

    scheme = "socks5"
    carries_udp = True
    _no_udp: DialError | None = None
    """Why `carries_udp` is False."""
    _probe: asyncio.Future[None] | None = None
    """Finds out whether the proxy carries UDP."""

    async def start(self) -> None:
        """Check that the proxy is there and lets us in. Raises DialError, one line for the user.

        Whether it takes UDP ASSOCIATE is asked now, too, but not waited for: TCP can begin meanwhile."""
        talk = await self._greeted()
        self._probe = asyncio.ensure_future(self._learn_udp(talk))
        self._probe.add_done_callback(lambda _: talk.close())

    async def _learn_udp(self, talk: Conversation) -> None:
        try:
            await self._associate(talk)
        except DialError as error:
            self.carries_udp = False
            self._no_udp = error

    async def open_datagrams(self, family: int) -> Datagrams:
        """A new UDP association, whatever `family`: one carries both, and names. Raises DialError."""
        if self._probe is not None:
            await asyncio.wait([self._probe])
        if isinstance(self._no_udp, ProxySilent):
            raise self._no_udp
        if self._no_udp is not None:
            raise DialUnsupported(f"{self.label}: the proxy carries no UDP")
        with await self._greeted() as talk:
            relay = await self._relay(talk, await self._associate(talk))
            sock = open_udp(family_of(relay.host) or talk.sock.family, self._escape, relay)
            return SocksDatagrams(sock, talk.hand_over().sock)

    def close(self) -> None:
        """See `Dialer.close`."""
        if self._probe is not None:
            self._probe.cancel()

    def _request(self, target: Target) -> bytes:
        return socks5.request(Command.CONNECT, target.host, target.port)

    def _parse_answer(self, heard: bytearray) -> tuple[Answer, int] | None:
        return socks5.parse_reply(heard)

    async def _greet(self, talk: Conversation) -> None:
        offer = (Method.NONE,) if self._credentials is None else (Method.NONE, Method.PASSWORD)
        await talk.say(socks5.greeting(*offer))
        method = await talk.hear(socks5.parse_choice)
        if method == Method.NONE:
            return
        if method == Method.PASSWORD and self._credentials is not None:
            await talk.say(socks5.credentials(self._credentials.user, self._credentials.password))
            if not await talk.hear(socks5.parse_verdict):
                raise ProxyAuthFailed(f"{self.label}: the proxy does not accept this user name and password")
        elif method in (Method.NO_ACCEPTABLE, Method.PASSWORD):
            if self._credentials is None:
                raise ProxyAuthFailed(
                    f"{self.label}: the proxy wants a user name and password: socks5://USER:PASSWORD@..."
                )
            raise ProxyAuthFailed(f"{self.label}: the proxy takes neither a password nor an anonymous client")
        else:
            raise ProxyError(f"{self.label}: the proxy chose method {method}, which was not offered")

    async def _associate(self, talk: Conversation) -> socks5.Address:
        complaint = f"{self.label}: no answer to UDP ASSOCIATE"
        async with patience(self._handshake_timeout, complaint, ProxySilent):
            # Our own address as the proxy sees it is unknown, hence zero (RFC 1928 §7).
            await talk.say(socks5.request(Command.UDP_ASSOCIATE, "0.0.0.0", 0))
            answer = await talk.hear(socks5.parse_reply)
        self._expect_success(answer, "UDP")
        return answer[1]

    async def _relay(self, talk: Conversation, bound: socks5.Address) -> Target:
        """Where datagrams go. A proxy that says "any address" means its own; one that says loopback without
        being there (a container or NAT that leaks) can only mean the same."""
        host, port = bound
        proxy = talk.proxy_address
        if not port:
            raise ProxyError(f"{self.label}: the proxy named no port for UDP")
        if host and family_of(host) is None:
            host = (await self._resolver.addresses(host))[0][1]
        if not host:
            return Target(proxy, port)
        there = ip_address(host)
        if isinstance(there, IPv6Address) and there.ipv4_mapped:
            there = there.ipv4_mapped
        if there.is_unspecified or (there.is_loopback and not ip_address(proxy).is_loopback):
            return Target(proxy, port)
        return Target(str(there), port)

    def _expect_success(self, answer: Answer, what: object) -> None:
        code, _ = answer
        if code == Reply.SUCCEEDED:
            return
        prefix = f"{what}: {self.label} says"
        match code:
            case Reply.GENERAL_FAILURE:
                raise DialUnreachable(f"{prefix} general failure", Reach.HOST)
            case Reply.NOT_ALLOWED:
                raise DialProhibited(f"{prefix} not allowed")
            case Reply.NETWORK_UNREACHABLE:
                raise DialUnreachable(f"{prefix} network unreachable", Reach.NETWORK)
            case Reply.HOST_UNREACHABLE:
                raise DialUnreachable(f"{prefix} host unreachable", Reach.HOST)
            case Reply.REFUSED:
                raise DialRefused(f"{prefix} connection refused")
            case Reply.TTL_EXPIRED:
                raise DialUnreachable(f"{prefix} TTL expired", Reach.EXPIRED)
            case Reply.COMMAND_UNSUPPORTED:
                raise DialUnsupported(f"{prefix} command not supported")
            case Reply.ADDRESS_TYPE_UNSUPPORTED:
                raise DialUnsupported(f"{prefix} address type not supported")
        raise ProxyError(f"{prefix} {code}, which means nothing in SOCKS5")
