"""The hosts file, as hosts(5) has it."""

from __future__ import annotations

from ipaddress import ip_address

from tunsmith.dns.hosts import addresses_of

TEXT = """\
# comment
127.0.0.1 localhost loopback  # the usual
::1       localhost
192.0.2.1\tProxy.example proxy
nonsense  proxy
2001:db8::1 proxy.example
"""


def test_all_addresses_of_a_name_in_their_order_whatever_its_case() -> None:
    assert addresses_of("PROXY.example.", TEXT) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert addresses_of("localhost", TEXT) == [ip_address("127.0.0.1"), ip_address("::1")]


def test_aliases_count_and_nonsense_does_not() -> None:
    assert addresses_of("proxy", TEXT) == [ip_address("192.0.2.1")]


def test_comments_and_parts_of_names_are_no_names() -> None:
    for name in ("comment", "usual", "local", "example", "#"):
        assert addresses_of(name, TEXT) == []
