"""host/netlink/channel.py against a kernel that is scripted: what is interrupted, refused, late or lost."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from tunsmith.host.netlink.attributes import attribute
from tunsmith.host.netlink.channel import Netlink

GET, ANSWER = 26, 24
ERROR, DONE = 2, 3
MULTI, INTERRUPTED, CAPPED, TLVS = 0x2, 0x10, 0x100, 0x200

Reply = Callable[[int], bytes] | OSError
"""A datagram, given the sequence number of the request; or how receiving fails."""


def message(kind: int, body: bytes, flags: int = MULTI, late: int = 0) -> Callable[[int], bytes]:
    """One that answers the request, or the one `late` requests before."""

    def packed(sequence: int) -> bytes:
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence - late, 0)
        return header + body + bytes(-len(body) % 4)

    return packed


def together(*parts: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda sequence: b"".join(part(sequence) for part in parts)


def error(number: int, words: str = "") -> Callable[[int], bytes]:
    """As the kernel refuses: the request's header is quoted, then come its words."""
    quoted = struct.pack("=IHHII", 16, GET, 0, 0, 0)
    text = attribute(1, words.encode() + b"\0") if words else b""
    return message(ERROR, struct.pack("=i", -number) + quoted + text, CAPPED | (TLVS if words else 0))


def done(code: int = 0, flags: int = MULTI) -> Callable[[int], bytes]:
    return message(DONE, struct.pack("=i", code), flags)


class Kernel:
    """Stands in for a netlink socket: the replies come in their order, whatever is asked."""

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies
        self.requests: list[tuple[int, int]] = []
        self._sequence = 0

    def setsockopt(self, *option: int) -> None:
        if option[1] == 12:
            raise OSError(errno.ENOPROTOOPT, "an older kernel")

    def bind(self, address: tuple[int, int]) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        _, kind, flags, self._sequence, _ = struct.unpack_from("=IHHII", data)
        self.requests.append((kind, flags))

    def recv_into(self, buffer: bytearray) -> int:
        reply = self.replies.pop(0)
        if isinstance(reply, OSError):
            raise reply
        data = reply(self._sequence)
        buffer[: len(data)] = data
        return len(data)


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Netlink, Kernel]]:
    def to(*replies: Reply) -> tuple[Netlink, Kernel]:
        kernel = Kernel(list(replies))
        monkeypatch.setattr("socket.socket", lambda *kind: kernel)
        return Netlink(), kernel

    return to


Talk = Callable[..., tuple[Netlink, Kernel]]


def test_a_dump_is_all_messages_up_to_done(talk: Talk) -> None:
    netlink, kernel = talk(
        together(message(ANSWER, b"one"), message(ANSWER, b"two")), together(message(ANSWER, b"3"), done())
    )
    assert netlink.dump(GET, b"") == [b"one", b"two", b"3"]
    assert kernel.requests == [(GET, 0x301)]
    assert not kernel.replies


def test_only_what_is_wanted(talk: Talk) -> None:
    netlink, _ = talk(together(message(ANSWER, b"one"), message(ANSWER, b"two"), done()))
    assert netlink.dump(GET, b"", lambda buffer, at: buffer[at] == ord("t")) == [b"two"]


@pytest.mark.parametrize(
    "broken",
    [
        [together(message(ANSWER, b"one", MULTI | INTERRUPTED), done())],
        [message(ANSWER, b"one"), done(flags=MULTI | INTERRUPTED)],
        [message(ANSWER, b"one"), OSError(errno.ENOBUFS, "no room")],
    ],
    ids=["a message says so", "the end says so", "an overflow"],
)
def test_an_interrupted_dump_is_asked_again(talk: Talk, broken: list[Reply]) -> None:
    netlink, kernel = talk(*broken, together(message(ANSWER, b"two"), done()))
    assert netlink.dump(GET, b"") == [b"two"]
    assert len(kernel.requests) == 2


def test_on_a_machine_that_never_rests_the_last_answer_has_to_do(talk: Talk) -> None:
    netlink, kernel = talk(*[together(message(ANSWER, b"one", INTERRUPTED), done())] * 99)
    assert netlink.dump(GET, b"") == [b"one"]
    assert len(kernel.requests) == 5


def test_what_is_left_of_an_earlier_request_is_passed_over(talk: Talk) -> None:
    netlink, _ = talk(
        together(message(ANSWER, b"old", late=1), message(DONE, bytes(4), late=1)),
        together(message(ANSWER, b"new"), done()),
    )
    assert netlink.dump(GET, b"") == [b"new"]


@pytest.mark.parametrize("refusal", [error(errno.ENOENT), done(-errno.ENOENT)], ids=["at once", "at its end"])
def test_no_such_table_is_an_empty_dump(talk: Talk, refusal: Reply) -> None:
    netlink, _ = talk(refusal)
    assert netlink.dump(GET, b"") == []


@pytest.mark.parametrize("refusal", [error(errno.EPERM), done(-errno.EPERM)], ids=["at once", "at its end"])
def test_a_refused_dump_raises(talk: Talk, refusal: Reply) -> None:
    netlink, _ = talk(refusal)
    with pytest.raises(PermissionError):
        netlink.dump(GET, b"")


def test_a_change_waits_for_its_acknowledgement(talk: Talk) -> None:
    netlink, kernel = talk(message(ERROR, bytes(20), late=1), error(0))
    netlink.change(ANSWER, 0x600, b"")
    assert kernel.requests == [(ANSWER, 0x605)]
    assert not kernel.replies


def test_a_refused_change_raises_with_the_kernels_words(talk: Talk) -> None:
    netlink, _ = talk(error(errno.EINVAL, "Nexthop has invalid gateway"))
    with pytest.raises(OSError, match="Nexthop has invalid gateway") as told:
        netlink.change(ANSWER, 0, b"")
    assert told.value.errno == errno.EINVAL


def test_without_words_the_errno_speaks(talk: Talk) -> None:
    netlink, _ = talk(error(errno.EEXIST))
    with pytest.raises(FileExistsError, match="File exists"):
        netlink.change(ANSWER, 0, b"")


def test_a_question_gets_one_answer(talk: Talk) -> None:
    netlink, _ = talk(message(ANSWER, b"late", late=1), message(ANSWER, b"this", 0))
    assert netlink.ask(GET, b"") == b"this"


def test_a_question_that_is_refused_raises(talk: Talk) -> None:
    netlink, _ = talk(error(errno.ENODEV))
    with pytest.raises(OSError, match="No such device"):
        netlink.ask(GET, b"")
