"""ICMP (RFC 792, 1191) and ICMPv6 (RFC 4443) messages: one vocabulary for both versions.

Errors are asked for by meaning (`Unreachable.PORT`), and each family has its own type and code for it.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct

from tunsmith.wire.checksum import Buffer, finish, ones_sum, pseudo_sum
from tunsmith.wire.ip import DEFAULT_TTL, IPV4, IPV6, IpFamily

ICMP = Struct(">BBHI")
"""type, code, checksum, rest of header (id and sequence, MTU, pointer, or unused)."""
HEADER_LENGTH = 8


class IcmpError(Enum):
    """Why a packet was not delivered: ((ICMP type, code), (ICMPv6 type, code))."""

    NETWORK = ((3, 0), (1, 0))
    HOST = ((3, 1), (1, 3))
    PROTOCOL = ((3, 2), (4, 1))
    PORT = ((3, 3), (1, 4))
    PROHIBITED = ((3, 13), (1, 1))
    TOO_BIG = ((3, 4), (2, 0))
    TIME_EXCEEDED = ((11, 0), (3, 0))
    REASSEMBLY = ((11, 1), (3, 1))
    PARAMETER = ((12, 0), (4, 0))

    def code(self, family: IpFamily) -> tuple[int, int]:
        """Type and code in `family`."""
        pair: tuple[tuple[int, int], tuple[int, int]] = self.value
        return pair[family.version == 6]


def meaning_of(family: IpFamily, icmp_type: int, code: int) -> IcmpError | None:
    """The error that a type and code stand for; None where it is only a hint."""
    for error in IcmpError:
        if error.code(family) == (icmp_type, code):
            return error
    if family is IPV6 and icmp_type == 2:  # whatever its code, RFC 4443 §3.2
        return IcmpError.TOO_BIG
    if family is IPV4 and icmp_type == 3 and code in (9, 10):
        return IcmpError.PROHIBITED
    return IcmpError.HOST if icmp_type == (3 if family is IPV4 else 1) else None


ECHO_REQUEST = {IPV4: 8, IPV6: 128}
ECHO_REPLY = {IPV4: 0, IPV6: 129}


def is_error(family: IpFamily, icmp_type: int) -> bool:
    """Whether a message of this type reports an error: none may be answered with another error."""
    return icmp_type < 128 if family is IPV6 else icmp_type in (3, 4, 5, 11, 12)


def build_icmp(
    family: IpFamily,
    source: bytes,
    destination: bytes,
    icmp_type: int,
    code: int,
    rest: int,
    body: Buffer,
    ttl: int = DEFAULT_TTL,
) -> bytes:
    """A complete IP packet with one ICMP message and its checksum; `body` is copied."""
    message = ICMP.pack(icmp_type, code, 0, rest) + body
    total = ones_sum(message)
    if family is IPV6:
        total += pseudo_sum(source + destination, family.icmp, len(message))
    header = family.header(source, destination, family.icmp, len(message), ttl=ttl, fragment=0)
    return header + message[:2] + finish(total).to_bytes(2, "big") + message[4:]


def build_error(
    family: IpFamily, source: bytes, destination: bytes, error: IcmpError, quoted: Buffer, rest: int = 0
) -> bytes:
    """An error about `quoted`, a whole IP packet or its beginning: cut so that the message fits the
    minimum MTU (RFC 4443 §2.4 c; RFC 1812 §4.3.2.3)."""
    room = family.minimum_mtu - family.header_length - HEADER_LENGTH
    icmp_type, code = error.code(family)
    return build_icmp(family, source, destination, icmp_type, code, rest, quoted[:room])
