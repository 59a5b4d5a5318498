from __future__ import annotations

import pytest

from tunsmith.wire.checksum import ones_sum, pseudo_sum
from tunsmith.wire.icmp import (
    ECHO_REPLY,
    ECHO_REQUEST,
    IcmpError,
    build_error,
    build_icmp,
    is_error,
    meaning_of,
)
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip

A = {IPV4: b"\x0a\0\0\x01", IPV6: bytes(15) + b"\x01"}
B = {IPV4: b"\x0a\0\0\x02", IPV6: bytes(15) + b"\x02"}
both = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])


@both
@pytest.mark.parametrize("body", [b"", b"odd", bytes(100)])
def test_a_message_has_its_checksum(family: IpFamily, body: bytes) -> None:
    packet = build_icmp(family, A[family], B[family], ECHO_REQUEST[family], 0, 0x00070001, body)
    header = parse_ip(packet)
    message = packet[header.header_length :]
    total = ones_sum(message)
    if family is IPV6:
        total += pseudo_sum(A[family] + B[family], 58, len(message))
    assert total % 0xFFFF == 0
    assert message[4:] == b"\0\x07\0\x01" + body


@both
@pytest.mark.parametrize("error", IcmpError)
def test_an_error_means_what_it_was_built_to_mean(family: IpFamily, error: IcmpError) -> None:
    icmp_type, code = error.code(family)
    assert meaning_of(family, icmp_type, code) is error
    assert is_error(family, icmp_type)


@both
def test_a_quote_is_cut_to_the_minimum_mtu(family: IpFamily) -> None:
    packet = build_error(family, A[family], B[family], IcmpError.TOO_BIG, bytes(5000), 1400)
    assert len(packet) == family.minimum_mtu
    assert packet[family.header_length + 4 :][:4] == (1400).to_bytes(4, "big")


@both
def test_echoes_are_no_errors(family: IpFamily) -> None:
    assert not is_error(family, ECHO_REQUEST[family])
    assert not is_error(family, ECHO_REPLY[family])


def test_codes_that_have_no_name_of_their_own() -> None:
    assert meaning_of(IPV4, 3, 9) is meaning_of(IPV4, 3, 10) is IcmpError.PROHIBITED
    assert meaning_of(IPV4, 3, 7) is meaning_of(IPV6, 1, 6) is IcmpError.HOST
    assert meaning_of(IPV4, 5, 1) is None
    assert meaning_of(IPV6, 100, 0) is None


def test_the_code_of_packet_too_big_means_nothing__rfc4443_3_2() -> None:
    assert meaning_of(IPV6, 2, 7) is IcmpError.TOO_BIG
