"""Upstream URLs, as curl and tun2socks write them, and the dialers they stand for.

    direct                                  this machine's own network
    block                                   nothing at all
    socks5://[USER:PASSWORD@]HOST[:PORT]    also socks5h://, and a bare HOST:PORT
    http://[USER:PASSWORD@]HOST[:PORT]

1080 is the port of SOCKS and curl's default; for HTTP curl says 1080 too, where no HTTP proxy listens, so
it is 8080 here. User and password are percent-decoded. socks5 means what curl calls socks5h: the proxy
resolves names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote, unquote_to_bytes

from tunsmith.dial.base import Dialer
from tunsmith.dial.block import BlockDialer
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.escape import Escape
from tunsmith.dial.http import HttpDialer
from tunsmith.dial.resolve import Resolver
from tunsmith.dial.socks import SocksDialer
from tunsmith.errors import UsageError
from tunsmith.flow import Target
from tunsmith.wire.socks5 import MAX_FIELD

DEFAULT_PORTS = {"socks5": 1080, "http": 8080}
_ALIASES = {"socks5h": "socks5"}
_BARE = ("direct", "block")
_KNOWN = "direct, block, socks5://[USER:PASSWORD@]HOST:PORT, http://[USER:PASSWORD@]HOST:PORT"
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """An upstream as the user named it. `scheme` is direct, block, socks5 or http; the rest is empty for the
    first two. Printing it does not show the credentials."""

    scheme: str
    host: str = ""
    port: int = 0
    credentials: Credentials | None = None

    def __str__(self) -> str:
        return self.scheme if self.scheme in _BARE else f"{self.scheme}://{Target(self.host, self.port)}"


def make_dialer(text: str, escape: Escape | None = None, resolver: Resolver | None = None) -> Dialer:
    """The dialer `text` stands for; its sockets leave by `escape`, and `resolver` knows where the proxy is. Raises
    UsageError."""
    url = parse_upstream(text)
    match url.scheme:
        case "direct":
            return DirectDialer(escape, resolver)
        case "block":
            return BlockDialer()
        case "http":
            return HttpDialer(Target(url.host, url.port), url.credentials, escape, resolver)
    return SocksDialer(Target(url.host, url.port), url.credentials, escape, resolver)


def parse_upstream(text: str) -> UpstreamUrl:
    """Take an upstream URL apart. Raises UsageError: one line, without the credentials."""
    if (bare := text.removesuffix("://").lower()) in _BARE:
        return UpstreamUrl(bare)
    if not text.strip():
        raise UsageError(f"upstream: the URL is empty; known are {_KNOWN}")
    if not text.isprintable():
        raise UsageError("upstream: the URL holds characters that cannot be printed; percent-encode them")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "socks5", text
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if scheme not in DEFAULT_PORTS:
        raise UsageError(f"upstream {scheme}://...: unknown scheme {scheme!r}; known are {_KNOWN}")
    userinfo, at, location = rest.rpartition("@")
    shown = f"{scheme}://{'...@' if at else ''}{location}"
    location = location.removesuffix("/")
    if extra := re.search(r"[/?#]", location):
        raise UsageError(
            f"upstream {shown}: nothing may follow the port, but {location[extra.start() :]!r} does"
            " (percent-encode / ? # @ in a password)"
        )
    host, port = _location(location, DEFAULT_PORTS[scheme] if separator else None, shown)
    return UpstreamUrl(scheme, host, port, _credentials(userinfo, scheme, shown) if at else None)


def _location(location: str, default_port: int | None, shown: str) -> tuple[str, int]:
    if location.startswith("["):
        host, bracket, rest = location[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"upstream {shown}: an IPv6 address is written [ADDRESS]:PORT")
        host = _ipv6(unquote(host), shown)
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = location.partition(":")
        if ":" in port:
            raise UsageError(f"upstream {shown}: put an IPv6 address in brackets: [ADDRESS]:PORT")
        host = _ipv4_or_name(host, shown)
    if colon:
        return host, _port(port, shown)
    if default_port is None:
        raise UsageError(
            f"upstream {shown.partition('://')[2]}: neither a URL nor HOST:PORT; known are {_KNOWN}"
        )
    return host, default_port


def _ipv6(host: str, shown: str) -> str:
    try:
        return str(IPv6Address(host))
    except ValueError:
        raise UsageError(f"upstream {shown}: {host!r} is not an IPv6 address") from None


def _ipv4_or_name(host: str, shown: str) -> str:
    if not host:
        raise UsageError(f"upstream {shown}: the host is missing; write HOST:PORT")
    if host.replace(".", "").isdigit():
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise UsageError(f"upstream {shown}: {host!r} is not an IPv4 address") from None
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise UsageError(f"upstream {shown}: {host!r} is not a host name")
    return name


def _port(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UsageError(f"upstream {shown}: the port is {text!r}; it must be a number from 1 to 65535")
    return int(text)


def _credentials(userinfo: str, scheme: str, shown: str) -> Credentials:
    user_text, _, password_text = userinfo.partition(":")
    user, password = unquote_to_bytes(user_text), unquote_to_bytes(password_text)
    if scheme == "http" and b":" in user:
        raise UsageError(f"upstream {shown}: an HTTP user name cannot hold a colon (RFC 7617)")
    if scheme == "socks5":
        if not user:
            raise UsageError(
                f"upstream {shown}: the user name is missing; SOCKS5 wants 1 to {MAX_FIELD} bytes"
            )
        for what, value in (("user name", user), ("password", password)):
            if len(value) > MAX_FIELD:
                raise UsageError(
                    f"upstream {shown}: the {what} is {len(value)} bytes; SOCKS5 takes {MAX_FIELD} (RFC 1929)"
                )
    return Credentials(user, password)
