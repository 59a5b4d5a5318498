"""workers/slots.py: several workers see one table of names, and a lease keeps a slot from everybody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tunsmith.dns.slots import TTL, MemorySlots
from tunsmith.workers.slots import IDLE_LEASES, KeeperGone, LeasedSlots, SlotKeeper


class Company:
    """A keeper in a thread of its own, as it is a process of its own, and workers that ask it."""

    def __init__(self, size: int) -> None:
        self.now = 0.0
        self.table = MemorySlots(size, set())
        self.keeper = SlotKeeper(self.table, lambda: self.now)
        self.threads: list[Thread] = []
        self.ends: list[socket.socket] = []

    def hire(self) -> LeasedSlots:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.threads.append(Thread(target=self._keep, args=(ours,), daemon=True))
        self.threads[-1].start()
        self.ends.append(theirs)
        return LeasedSlots(theirs)

    def _keep(self, sock: socket.socket) -> None:
        with sock:
            while sock.recv(1, socket.MSG_PEEK):
                sock.setblocking(False)
                self.keeper.serve(sock)
                sock.setblocking(True)
            self.keeper.serve(sock)

    def dismiss(self, number: int) -> None:
        self.ends[number].close()
        self.threads[number].join()


@pytest.fixture
def company() -> Iterator[Company]:
    made = Company(4)
    yield made
    for number in range(len(made.ends)):
        made.dismiss(number)


def test_workers_agree_on_names_and_slots(company: Company) -> None:
    one, two = company.hire(), company.hire()
    slot = one.slot_of("a.test", 0.0)
    assert slot is not None
    assert two.name_at(slot) == "a.test"
    assert two.slot_of("a.test", 0.0) == slot
    assert two.slot_of("b.test", 0.0) not in (slot, None)
    assert one.name_at(3) is None


def test_a_slot_with_a_flow_in_one_worker_is_not_given_away_by_another(company: Company) -> None:
    one, two = company.hire(), company.hire()
    held = one.slot_of("held.test", 0.0)
    assert held is not None
    one.pin(held)
    company.now = 100.0
    taken = {two.slot_of(f"{number}.test", 100.0) for number in range(3)}
    assert held not in taken
    assert two.slot_of("more.test", 100.0) is None, "all are leased"
    assert one.name_at(held) == "held.test"


def test_the_slots_of_a_worker_that_died_are_free_again(company: Company) -> None:
    one, two = company.hire(), company.hire()
    for number in range(4):
        slot = one.slot_of(f"{number}.test", 0.0)
        assert slot is not None
        one.pin(slot)
    company.now = TTL
    assert two.slot_of("new.test", 0.0) is None
    company.dismiss(0)
    assert two.slot_of("new.test", 0.0) is not None


def test_few_leases_without_flows_are_kept_and_none_with_a_flow_is_given_back() -> None:
    company = Company(10 * IDLE_LEASES)
    worker = company.hire()
    busy = worker.slot_of("busy.test", 0.0)
    assert busy is not None
    worker.pin(busy)
    for number in range(3 * IDLE_LEASES):
        worker.slot_of(f"{number}.test", 0.0)
    assert len(worker) == IDLE_LEASES + 1
    assert worker.name_at(busy) == "busy.test"
    worker.unpin(busy)
    assert len(worker) == IDLE_LEASES
    company.dismiss(0)


def test_a_lease_that_is_given_back_is_believed_for_a_moment_longer() -> None:
    """The worker may have answered from it until now."""
    now = 0.0
    table = MemorySlots(2, set(), names=1)
    keeper = SlotKeeper(table, lambda: now)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"Na.test")
        keeper.serve(ours)
        now = 100.0
        theirs.send(b"R" + theirs.recv(9))
        keeper.serve(ours)
    assert table.slot_of("new.test", 100.0 + TTL / 2) is None
    assert table.slot_of("new.test", 100.0 + TTL) is not None


@pytest.mark.parametrize("nonsense", [b"?", b"Sx", b"X1", b"N\xff", b"R"])
def test_nonsense_ends_the_leases_of_its_worker_and_nothing_else(nonsense: bytes) -> None:
    table = MemorySlots(4, set())
    keeper = SlotKeeper(table, lambda: 0.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"Na.test")
        theirs.send(nonsense)
        keeper.serve(ours)
        assert table.name_at(0) == "a.test"
        assert [table.slot_of(f"{number}.test", TTL) for number in range(4)].count(None) == 0


def test_a_worker_whose_keeper_has_ended_is_told() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs, pytest.raises(KeeperGone):
        LeasedSlots(theirs).slot_of("a.test", 0.0)
