"""UDP header, RFC 768."""

from __future__ import annotations

from struct import Struct

UDP = Struct(">HHHH")
"""source port, destination port, length, checksum."""

HEADER_LENGTH = 8
CHECKSUM_OFFSET = 6
