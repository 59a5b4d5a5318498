from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.pcapng_reader import read
from tunsmith.wire import pcapng

HEAD = pcapng.section_header("tunsmith 1.0", "Linux") + pcapng.interface("tun0", 65535)


def test_a_file_begins_with_a_section_and_a_raw_ip_interface_in_nanoseconds() -> None:
    recording = read(HEAD)
    assert recording.section == {3: b"Linux", 4: b"tunsmith 1.0"}
    assert recording.interfaces == [(101, 65535, {2: b"tun0", 9: b"\x09"})]


@given(
    st.binary(max_size=100),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_packets_come_back_with_time_direction_and_comment(
    data: bytes, when: int, outbound: bool, comment: str
) -> None:
    block = pcapng.packet(data, len(data) + 5, when, outbound=outbound, comment=comment)
    (packet,) = read(HEAD + block).packets
    assert (packet.when, packet.data, packet.length) == (when, data, len(data) + 5)
    assert packet.options.pop(2) == (b"\x02" if outbound else b"\x01") + bytes(3)
    assert packet.options.get(1, b"").decode() == comment


def test_options_longer_than_their_length_field_are_cut() -> None:
    (packet,) = read(HEAD + pcapng.packet(b"", 0, 0, outbound=True, comment="x" * 70000)).packets
    assert packet.options[1] == b"x" * 65535


def test_names_of_both_families() -> None:
    blocks = pcapng.name_resolution(bytes(4), "a.example") + pcapng.name_resolution(
        bytes(16), "bücher.example"
    )
    assert read(HEAD + blocks).names == [(bytes(4), "a.example"), (bytes(16), "bücher.example")]


def test_statistics() -> None:
    ((when, options),) = read(HEAD + pcapng.interface_statistics(2**40, 7, 2)).statistics
    assert when == 2**40
    assert options == {4: (7).to_bytes(8, "little"), 5: (2).to_bytes(8, "little")}
