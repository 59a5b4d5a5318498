"""The text of our table; tests/netns has nftables read it."""

from __future__ import annotations

from tunsmith.route.firewall import table


def leaving(text: str) -> list[str]:
    return [line.strip() for line in text[text.index("chain leaving") :].splitlines()]


def test_only_our_own_sockets_are_remembered_where_they_bear_the_mark() -> None:
    """Anybody's connection that began while we set up would go past the TUN for as long as it lives."""
    rules = leaving(table("t", "tun0", 0x40))
    assert "meta mark & 0x40 == 0x40 ct state new ct mark set ct mark | 0x40" in rules
    assert not [rule for rule in rules if rule.startswith("oifname !=")]


def test_sockets_without_mark_are_known_by_leaving_past_the_tun() -> None:
    rules = leaving(table("t", "tun0", 0x40, sockets_bear_it=False))
    assert 'oifname != "tun0" ct state new ct mark set ct mark | 0x40' in rules
