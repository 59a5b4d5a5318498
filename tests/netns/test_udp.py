"""Datagrams: whole, unmixed, from one port to the world, small and in super-datagrams."""

from __future__ import annotations

import pytest

from tests.netns import ports
from tests.netns.caller import Caller
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", [4, 6])
SIZES = [0, 1, 512, 1400, 1472, 1473, 8192, 20000, 65000]
"""Up to what needs 45 fragments on both sides."""


@FAMILIES
def test_echo_of_every_size(caller: Caller, family: int) -> None:
    assert caller.client("udp_echo", SERVER[family], ports.ECHO, *SIZES) == [True] * len(SIZES)


@FAMILIES
@pytest.mark.parametrize("size", [1472, 1473, 8192])
def test_equal_datagrams_at_once(caller: Caller, family: int, size: int) -> None:
    """Those that fit a packet are gathered into one super-datagram; those that do not are not."""
    assert caller.client("udp_echo_at_once", SERVER[family], ports.ECHO, 20, size) == 20


@FAMILIES
def test_one_port_inside_is_one_port_outside(caller: Caller, family: int) -> None:
    """Endpoint-independent mapping, RFC 4787 REQ-1."""
    host = SERVER[family]
    seen = caller.client("udp_from_one_port", host, ports.WHO, host, ports.WHO_ELSE, host, ports.WHO)
    assert len({mapping for mapping, *_ in seen}) == 1
    assert [source for _, *source in seen] == [
        [host, port] for port in (ports.WHO, ports.WHO_ELSE, ports.WHO)
    ]


@FAMILIES
def test_strangers_may_answer(caller: Caller, family: int) -> None:
    """Endpoint-independent filtering, RFC 4787 §5."""
    [[said, host, port]] = caller.client("udp_from_one_port", SERVER[family], ports.STRANGER)
    assert (said, host) == ("?", SERVER[family])
    assert port != ports.STRANGER


@FAMILIES
def test_segmented_super_datagrams_up(caller: Caller, family: int) -> None:
    """As QUIC sends: UDP_SEGMENT, 40 datagrams of 1200 bytes a call."""
    assert caller.client("udp_segments_up", SERVER[family], ports.ECHO, 100, 40, 1200) is True


@FAMILIES
def test_super_datagrams_down(caller: Caller, family: int) -> None:
    """As QUIC receives: what the server sent as one arrives as one."""
    seen = caller.client("udp_segments_down", SERVER[family], ports.BURST, 100, 40, 1200)
    assert seen["complete"]
    assert seen["largest"] > 10 * 1200
