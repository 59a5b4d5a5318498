"""resolv.conf(5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.dns.resolvconf import ResolvConf, parse, render

FULL = """\
# Made by hand
; or not
domain old.example
nameserver 127.0.0.53
nameserver fe80::1%eth0   # the router
nameserver\t192.0.2.53
nameserver not-an-address
 nameserver 192.0.2.99
nameserver
search corp.example  lab.example
options edns0 trust-ad
options ndots:2
sortlist 192.0.2.0
"""


def test_a_full_file():
    conf = parse(FULL)
    assert conf.nameservers == ("127.0.0.53", "fe80::1%eth0", "192.0.2.53")
    assert conf.search == ("corp.example", "lab.example")
    assert conf.options == ("edns0", "trust-ad", "ndots:2")
    assert conf.ndots == 2


def test_the_last_of_domain_and_search_wins():
    assert parse("search a b\ndomain c\n").search == ("c",)


def test_an_empty_file_says_nothing():
    assert parse("") == ResolvConf()
    assert parse("").ndots == 1


def test_ndots_is_capped_as_in_glibc_and_nonsense_is_skipped():
    assert parse("options ndots:99").ndots == 15
    assert parse("options ndots:5 ndots:x").ndots == 5


def test_rendering_keeps_search_and_options_but_not_the_servers():
    text = render(["198.18.0.2", "2001:2::2"], keep=parse(FULL))
    assert text == (
        "nameserver 198.18.0.2\n"
        "nameserver 2001:2::2\n"
        "search corp.example lab.example\n"
        "options edns0 trust-ad ndots:2\n"
    )
    assert render(["198.18.0.2"]) == "nameserver 198.18.0.2\n"


@given(st.text())
def test_any_text_is_a_resolv_conf_and_rendering_it_changes_nothing(text):
    conf = parse(text)
    assert parse(render(conf.nameservers, keep=conf)) == conf
