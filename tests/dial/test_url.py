"""What a user may write after --via, and what is said about the rest."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.dial.block import BlockDialer
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.escape import Escape
from tunsmith.dial.http import HttpDialer
from tunsmith.dial.socks import SocksDialer
from tunsmith.dial.url import UpstreamUrl, make_dialer, parse_upstream
from tunsmith.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("direct", UpstreamUrl("direct")),
        ("direct://", UpstreamUrl("direct")),
        ("DIRECT", UpstreamUrl("direct")),
        ("Block", UpstreamUrl("block")),
        ("block", UpstreamUrl("block")),
        ("socks5://proxy.test", UpstreamUrl("socks5", "proxy.test", 1080)),
        ("socks5h://proxy.test:9050", UpstreamUrl("socks5", "proxy.test", 9050)),
        ("SOCKS5://192.0.2.1:1", UpstreamUrl("socks5", "192.0.2.1", 1)),
        ("192.0.2.1:1080", UpstreamUrl("socks5", "192.0.2.1", 1080)),
        ("[2001:db8::1]:1080", UpstreamUrl("socks5", "2001:db8::1", 1080)),
        ("localhost:1080", UpstreamUrl("socks5", "localhost", 1080)),
        ("socks5://[2001:DB8::1]", UpstreamUrl("socks5", "2001:db8::1", 1080)),
        ("socks5://[fe80::1%25eth0]:1", UpstreamUrl("socks5", "fe80::1%eth0", 1)),
        ("http://proxy.test", UpstreamUrl("http", "proxy.test", 8080)),
        ("http://proxy.test:3128/", UpstreamUrl("http", "proxy.test", 3128)),
        ("http://bücher.test:1", UpstreamUrl("http", "xn--bcher-kva.test", 1)),
        ("socks5://u:p@h:1", UpstreamUrl("socks5", "h", 1, Credentials(b"u", b"p"))),
        ("socks5://u%3A:p%40%C3%BC@h:1", UpstreamUrl("socks5", "h", 1, Credentials(b"u:", b"p@\xc3\xbc"))),
        ("socks5://u:a:b@c/d@h:1", UpstreamUrl("socks5", "h", 1, Credentials(b"u", b"a:b@c/d"))),
        ("socks5://u@h:1", UpstreamUrl("socks5", "h", 1, Credentials(b"u", b""))),
        ("u:p@h:1", UpstreamUrl("socks5", "h", 1, Credentials(b"u", b"p"))),
        ("http://:token@h:1", UpstreamUrl("http", "h", 1, Credentials(b"", b"token"))),
    ],
)
def test_upstream_is_understood(text: str, expected: UpstreamUrl) -> None:
    assert parse_upstream(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("socks4://h:1", "unknown scheme 'socks4'; known are direct, block, socks5://"),
        ("driect", "neither a URL nor HOST:PORT; known are direct"),
        ("", "empty; known are direct"),
        ("socks5://", "host is missing"),
        ("socks5://:1", "host is missing"),
        ("socks5://h:", "port is ''"),
        ("socks5://h:0", "port is '0'"),
        ("socks5://h:65536", "port is '65536'"),
        ("socks5://h:x", "port is 'x'"),
        ("socks5://h:+1", "port is"),
        ("socks5://h:١", "port is"),
        ("socks5://h:1/x", "nothing may follow the port, but '/x' does"),
        ("socks5://h?x=1", "nothing may follow the port, but '?x=1' does"),
        ("http://h:1#x", "nothing may follow the port, but '#x' does"),
        ("::1:1080", "brackets"),
        ("socks5://[::1", "[ADDRESS]:PORT"),
        ("socks5://[::1]1080", "[ADDRESS]:PORT"),
        ("socks5://[::g]:1", "'::g' is not an IPv6 address"),
        ("socks5://1.2.3.400:1", "'1.2.3.400' is not an IPv4 address"),
        ("socks5://1.2.3:1", "'1.2.3' is not an IPv4 address"),
        ("socks5://a b:1", "'a b' is not a host name"),
        ("socks5://-a:1", "not a host name"),
        ("socks5://" + "a" * 254 + ":1", "not a host name"),
        ("socks5://@h:1", "user name is missing"),
        ("socks5://" + "u" * 256 + ":p@h:1", "user name is 256 bytes; SOCKS5 takes 255"),
        ("socks5://u:" + "ü" * 128 + "@h:1", "password is 256 bytes; SOCKS5 takes 255"),
        ("http://a%3Ab:c@h:1", "cannot hold a colon"),
        ("socks5://h\n:1", "cannot be printed"),
    ],
)
def test_mistake_is_named_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_upstream(text)
    message = str(caught.value)
    assert complaint in message
    assert message.startswith("upstream")
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "socks5://joe:hunter2@h:0",
        "socks9://joe:hunter2@h:1",
        "http://joe:hunter2@h:1/x",
        "http://joe:hunter2@[h",
    ],
)
def test_mistake_does_not_show_the_credentials(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_upstream(text)
    assert "joe" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_label_does_not_show_the_credentials() -> None:
    for text in ("socks5://joe:hunter2@[::1]", "http://joe:hunter2@h:1"):
        for shown in (make_dialer(text).label, str(parse_upstream(text)), repr(parse_upstream(text))):
            assert "joe" not in shown
            assert "hunter2" not in shown
    assert make_dialer("socks5://joe:hunter2@[::1]").label == "socks5://[::1]:1080"


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for candidate in (text, f"socks5://{text}", f"http://{text}"):
        with contextlib.suppress(UsageError):
            parse_upstream(candidate)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("direct", DirectDialer), ("block", BlockDialer), ("h:1", SocksDialer), ("http://h", HttpDialer)],
)
def test_dialer_fits_the_scheme(text: str, kind: type) -> None:
    assert type(make_dialer(text)) is kind


def test_interface_that_does_not_exist_is_refused_before_anything_is_done() -> None:
    with pytest.raises(UsageError, match=r"--interface nope0: no such interface; this machine has .*lo"):
        Escape("nope0")


@pytest.mark.parametrize("name", ["", "x" * 16, "a\0b"])
def test_interface_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="1 to 15 bytes"):
        Escape(name)


def test_pinned_dialer_says_so() -> None:
    assert make_dialer("direct", Escape("lo")).label == "direct by lo"
