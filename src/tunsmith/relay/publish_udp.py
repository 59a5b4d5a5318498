"""Published UDP ports: every client becomes a flow to the server inside, and answers leave by this port,
from the very address that the client wrote to (IP_PKTINFO: a machine may have several).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tunsmith.dial.udp import DATAGRAM_SIZE, MAX_SEGMENTS, NOT_SEGMENTABLE, UDP_GRO, UDP_SEGMENT
from tunsmith.flow import Target
from tunsmith.relay.poller import IN
from tunsmith.relay.report import FlowRecord
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

if TYPE_CHECKING:
    from tunsmith.relay.publish import Doorway, Surroundings
    from tunsmith.stack.events import DatagramError

CALLERS = 1024
"""Clients of one port at the same time; the longest idle makes room."""
RECEIVES = 64
"""Datagrams taken before other flows get their turn."""
KEPT = 2048
"""Longest datagram that is kept until the server has answered at all."""
IP_PKTINFO = 8
_CONTROL_ROOM = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(20)

Control = list[tuple[int, int, bytes]]


class Caller:
    """One client of a port."""

    __slots__ = ("address", "control", "family", "key", "place", "record", "unanswered")

    def __init__(
        self, address: tuple[str, int], control: Control, place: tuple[object, bytes], record: FlowRecord
    ) -> None:
        self.address = address
        self.control = control
        """Makes answers leave from the address that was written to."""
        self.place = place
        self.record = record
        self.family: IpFamily = IPV4
        self.key = b""
        """That of packets to the server."""
        self.unanswered: tuple[bytes, int] | None = None
        """The latest datagram and its segment size, as long as the server has never answered."""


class UdpPort:
    """One socket; owns it. `answers` is where all ports enter the keys of answers they wait for."""

    def __init__(
        self,
        sock: socket.socket,
        family: IpFamily,
        inner_port: int,
        doorway: Doorway,
        around: Surroundings,
        answers: dict[bytes, UdpPort],
    ) -> None:
        self._sock = sock
        self._family = family
        self._inner_port = inner_port
        self._doorway = doorway
        self._around = around
        self._answers = answers
        self._label = str(Target(*sock.getsockname()[:2]))
        self._callers: dict[tuple[object, bytes], Caller] = {}
        """By address and the address written to; the one heard of longest ago first."""
        self._by_answer: dict[bytes, Caller] = {}
        with contextlib.suppress(OSError):  # Linux 5.0
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        if family is IPV4:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        around.poller.watch(sock.fileno(), IN, self._on_ready)

    # --- client to server ---

    def _on_ready(self, _: int) -> None:
        for _ in range(RECEIVES):
            try:
                data, control, _, address = self._sock.recvmsg(DATAGRAM_SIZE, _CONTROL_ROOM)
            except BlockingIOError:
                return
            except OSError:
                self._around.drops["publish_receive_failed"] += 1
                continue
            local, segment_size = _read_control(control)
            place = (address, local)
            caller = self._callers.pop(place, None) or self._meet(address, local, place)
            if caller is not None:
                self._callers[place] = caller
                self._send_inside(caller, data, segment_size)

    def _meet(self, address: tuple[str, int], local: bytes, place: tuple[object, bytes]) -> Caller | None:
        if len(self._callers) >= CALLERS:
            self._around.drops["publish_evicted"] += 1
            self._end(next(iter(self._callers.values())), "evicted")
        family, now = self._family, self._around.clock()
        client = ip_address(address[0].partition("%")[0]).packed
        server = self._doorway.server(family)
        record = FlowRecord(
            "udp",
            family,
            family.key(client, address[1], server, self._inner_port),
            Target(ip_address(server).compressed, self._inner_port),
            "publish",
            self._label,
            now,
            last=now,
        )
        caller = Caller(address, _control_for(family, local), place, record)
        if self._lead(caller, family, self._doorway.faces(family, client, address[1])):
            return caller
        return None

    def _lead(self, caller: Caller, family: IpFamily, faces: Iterable[tuple[bytes, int]]) -> bool:
        """Choose by which address and port the server is to see `caller`."""
        server = self._doorway.server(family)
        for face in faces:
            answer = family.key(server, self._inner_port, *face)
            if answer not in self._answers and not self._around.is_taken(answer):
                self._answers[answer] = self
                self._by_answer[answer] = caller
                caller.family, caller.key = family, family.swap(answer)
                return True
        self._around.drops["publish_no_port"] += 1
        return False

    def _send_inside(self, caller: Caller, data: bytes, segment_size: int) -> None:
        record = caller.record
        record.down += len(data)
        record.last = self._around.clock()
        if not record.up:
            caller.unanswered = (data, segment_size) if len(data) <= KEPT else None
        self._around.stack.send_datagram(caller.family, caller.key, data, segment_size)

    def on_error(self, answer: bytes, error: DatagramError) -> None:
        """The server's host refused a datagram. If it never answered, it may listen for the other IP version."""
        caller = self._by_answer[answer]
        if error.error is not IcmpError.PORT:
            return
        unanswered, caller.unanswered = caller.unanswered, None
        if unanswered is not None and caller.family is self._family:
            other = IPV6 if self._family is IPV4 else IPV4
            if self._lead(caller, other, self._doorway.masks(other)):
                self._forget(answer)
                self._around.stack.send_datagram(other, caller.key, *unanswered)
                return
        self._end(caller, "refused")

    # --- server to client ---

    def answer(self, key: bytes, data: memoryview, segment_size: int) -> None:
        """A datagram of the application along `key`."""
        caller = self._by_answer[key]
        record = caller.record
        record.up += len(data)
        record.last = self._around.clock()
        caller.unanswered = None
        try:
            if segment_size:
                self._send_segments(caller, data, segment_size)
            else:
                self._sock.sendmsg((data,), caller.control, 0, caller.address)
        except BlockingIOError:
            self._around.drops["publish_full"] += 1
        except OSError:
            self._around.drops["publish_send_failed"] += 1

    def _send_segments(self, caller: Caller, data: memoryview, size: int) -> None:
        if len(data) <= size * MAX_SEGMENTS:
            control = [*caller.control, (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            try:
                self._sock.sendmsg((data,), control, 0, caller.address)
                return
            except OSError as error:
                if error.errno not in NOT_SEGMENTABLE:
                    raise
        for start in range(0, len(data), size):
            self._sock.sendmsg((data[start : start + size],), caller.control, 0, caller.address)

    # --- the end ---

    def expire(self, now: float) -> None:
        """Forget clients that have been idle for longer than their kind of talk allows."""
        limits = self._around.limits
        for caller in list(self._callers.values()):
            limit = limits.udp_two_way if caller.record.up else limits.udp_one_shot
            if now - caller.record.last >= limit:
                self._end(caller, "idle")

    def close(self) -> None:
        """Stop listening; idempotent."""
        for caller in list(self._callers.values()):
            self._end(caller, "closed")
        if self._sock.fileno() >= 0:
            self._around.poller.forget(self._sock.fileno())
            self._sock.close()

    def _forget(self, answer: bytes) -> None:
        del self._answers[answer], self._by_answer[answer]

    def _end(self, caller: Caller, outcome: str) -> None:
        self._forget(caller.family.swap(caller.key))
        self._callers.pop(caller.place, None)
        caller.record.outcome = outcome
        self._around.on_end(caller.record)


def _read_control(control: Control) -> tuple[bytes, int]:
    """The address written to, and the size of the datagrams joined by UDP_GRO, or 0."""
    local, segment_size = b"", 0
    for level, kind, data in control:
        if level == socket.IPPROTO_UDP and kind == UDP_GRO:
            segment_size = int.from_bytes(data, sys.byteorder)
        elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            local = data[4:8]
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            local = data[:16]
    return local, segment_size


def _control_for(family: IpFamily, local: bytes) -> Control:
    """What makes a datagram leave from `local`: struct in_pktinfo, struct in6_pktinfo."""
    if not local:
        return []
    if family is IPV4:
        return [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local + bytes(4))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local + bytes(4))]
