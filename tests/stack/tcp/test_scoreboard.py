"""What is known of each transmission in flight: RFC 6675 §3, RFC 2018."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.stack.tcp.scoreboard import LOST, SACKED, Scoreboard, Sent

TEXT = bytes(range(100))


def board(*lengths: int) -> Scoreboard:
    """Transmissions of `lengths`, from position 0 on; the last carries a FIN."""
    records: list[Sent] = []
    start = 0
    for number, length in enumerate(lengths):
        end = start + length
        records.append(Sent(start, end, TEXT[start:end], False, float(number)))
        start = end
    records[-1].fin = True
    records[-1].end += 1
    return Scoreboard(records, 0)


def edges(found: Scoreboard) -> list[tuple[int, int, int]]:
    return [(record.start, record.end, record.marks) for record in found.records]


def test_a_record_is_cut_where_a_block_ends_and_only_there__rfc6675_3() -> None:
    found = board(40, 40)
    assert [len(record) for record in found.sack([(10, 20)])] == [10]
    assert edges(found) == [(0, 10, 0), (10, 20, SACKED), (20, 40, 0), (40, 81, 0)]
    assert (
        b"".join(bytes(record.data) for record in found.records if not record.marks)
        == TEXT[:10] + TEXT[20:80]
    )


def test_neighbours_that_are_sacked_become_one_record() -> None:
    found = board(10, 10, 10, 10, 10)
    found.sack([(10, 20)])
    found.sack([(30, 40)])
    found.sack([(20, 30)])
    assert edges(found) == [(0, 10, 0), (10, 40, SACKED), (40, 51, 0)]
    assert (found.sacked, found.pieces) == (30, 3)


def test_what_the_blocks_repeat_is_not_delivered_again() -> None:
    found = board(50)
    assert sum(map(len, found.sack([(10, 20)]))) == 10
    assert sum(map(len, found.sack([(10, 30)]))) == 10
    assert found.sack([(10, 30)]) == []


def test_an_ack_into_what_is_sacked_leaves_the_rest_of_it() -> None:
    found = board(10, 10, 10)
    found.sack([(10, 20)])
    found.sack([(10, 31)])
    assert sum(map(len, found.acknowledge(15))) == 10
    assert edges(found) == [(15, 31, SACKED)]
    assert found.reneged
    assert (found.sacked, found.pieces) == (16, 1)
    found.forget()
    (record,) = found.records
    assert (bytes(record.data), record.fin, record.marks, found.sacked) == (TEXT[15:30], True, 0, 0)


def test_what_was_lost_and_arrives_after_all_is_no_longer_lost() -> None:
    found = board(10, 10)
    found.lose_all()
    assert found.lost == 21
    found.sack([(10, 21)])
    assert (found.lost, found.sacked) == (10, 11)
    found.find()
    assert (found.lost, found.records[0].marks) == (0, 0)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.lists(
        st.tuples(st.sampled_from(["sack", "ack", "lose", "again"]), st.integers(0, 99), st.integers(1, 40)),
        max_size=20,
    ),
)
def test_the_counts_are_those_of_the_records(lengths: list[int], steps: list[tuple[str, int, int]]) -> None:
    lengths = lengths[:3]
    found = board(*lengths)
    end = found.records[-1].end
    una = 0
    for what, at, length in steps:
        if what == "sack" and una < at < end:
            found.sack([(at, min(at + length, end))])
        elif what == "ack" and una < at <= end:
            found.acknowledge(at)
            una = at
        elif what == "lose":
            found.lose_all()
        elif what == "again":
            for record in found.records:
                if record.marks & LOST:
                    found.send_again(record, 9.0)
                    break
        records = found.records
        assert [record.start for record in records][1:] == [record.end for record in records][:-1]
        assert not records or (records[0].start, records[-1].end) == (una, end)
        assert found.sacked == sum(len(record) for record in records if record.marks & SACKED)
        assert found.lost == sum(len(record) for record in records if record.marks & LOST)
        for record in records:
            if not record.marks & SACKED:
                assert bytes(record.data) == TEXT[record.start : record.end - record.fin]
