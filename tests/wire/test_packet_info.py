from __future__ import annotations

import pytest

from tunsmith.wire.packet_info import BSD4, LINUX4, NONE, bsd4, offset


def test_linux4_is_flags_and_ethertype() -> None:
    assert (LINUX4.word(0x45), LINUX4.word(0x60)) == (b"\0\0\x08\x00", b"\0\0\x86\xdd")


def test_bsd4_is_the_address_family_big_endian() -> None:
    assert (BSD4.word(0x45), BSD4.word(0x6F)) == (b"\0\0\0\x02", b"\0\0\0\x1e")
    assert bsd4(28).word(0x60) == b"\0\0\0\x1c"


@pytest.mark.parametrize(("info", "length"), [(NONE, 0), (LINUX4, 4), (BSD4, 4), (offset(12), 12)])
def test_length_is_that_of_every_word(info, length) -> None:
    assert len(info) == len(info.word(0x45)) == len(info.word(0x60)) == length
