from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.stack.tcp.peer import peer
from tunsmith.stack.deadlines import ENTRIES, Deadlines
from tunsmith.stack.tcp.timers import NEVER


class Alarm:
    """Timers that can be set at will; what expired is disarmed, or set again `every` so often."""

    def __init__(self, slots: int = 2, every: float = 0.0) -> None:
        self.timers = [NEVER] * slots
        self.scheduled = NEVER
        self.every = every
        self.rung: list[float] = []

    def on_timeout(self, now: float) -> None:
        for slot, due in enumerate(self.timers):
            if due <= now:
                self.rung.append(due)
                self.timers[slot] = now + self.every if self.every else NEVER


def test_nothing_is_due_when_nothing_was_set() -> None:
    deadlines = Deadlines()
    assert deadlines.earliest() is None
    deadlines.run(1e9)


def test_a_timer_set_for_later_costs_no_second_entry() -> None:
    deadlines, alarm = Deadlines(), Alarm()
    alarm.timers[0] = 1.0
    deadlines.schedule(alarm, 1.0)
    for due in range(2, 1000):
        alarm.timers[0] = float(due)
        deadlines.schedule(alarm, float(due))
    assert len(deadlines._heap) == 1
    assert deadlines.earliest() == 999.0


def test_a_disarmed_timer_is_forgotten() -> None:
    deadlines, alarm = Deadlines(), Alarm()
    alarm.timers[0] = 1.0
    deadlines.schedule(alarm, 1.0)
    alarm.timers[0] = NEVER
    assert deadlines.earliest() is None
    assert alarm.scheduled == NEVER


def test_the_owner_hears_when_the_earliest_moves_forward() -> None:
    deadlines, heard = Deadlines(), list[float]()
    deadlines.on_earlier = heard.append
    one, two = Alarm(), Alarm()
    for alarm, due in ((one, 5.0), (two, 6.0), (two, 3.0), (one, 4.0)):
        alarm.timers[0] = due
        deadlines.schedule(alarm, due)
    assert heard == [5.0, 3.0]


def test_a_far_timer_behind_many_near_ones_does_not_fill_the_heap() -> None:
    deadlines, alarms = Deadlines(), [Alarm() for _ in range(10)]
    for number, alarm in enumerate(alarms):
        alarm.timers[0] = 1000.0 + number
    for now in range(900):
        for alarm in alarms:
            alarm.timers[1] = now + 0.5
            deadlines.schedule(alarm, now + 0.5)
        deadlines.run(now + 0.5)
        assert len(deadlines._heap) <= ENTRIES + 20
        assert deadlines.earliest() == 1000.0
    deadlines.run(2000.0)
    assert [alarm.rung[-1] for alarm in alarms] == [1000.0 + number for number in range(10)]
    assert deadlines.earliest() is None


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.one_of(st.none(), st.integers(1, 50))), max_size=60
    ),
    st.lists(st.integers(0, 20), max_size=20),
    st.booleans(),
)
def test_the_earliest_is_exact_and_nothing_stays_due(
    settings: list[tuple[int, int, int | None]], pauses: list[int], repeats: bool
) -> None:
    deadlines = Deadlines()
    alarms = [Alarm(every=7.0 if repeats and number else 0.0) for number in range(5)]
    now = 0.0
    for index, (who, slot, delay) in enumerate(settings):
        alarm = alarms[who]
        alarm.timers[slot] = NEVER if delay is None else now + delay
        deadlines.schedule(alarm, min(alarm.timers))
        real = min(min(alarm.timers) for alarm in alarms)
        assert deadlines.earliest() == (None if real == NEVER else real)
        if index < len(pauses):
            now += pauses[index]
            deadlines.run(now)
            real = min(min(alarm.timers) for alarm in alarms)
            assert real > now
            assert deadlines.earliest() == (None if real == NEVER else real)


def test_the_deadline_of_a_stack_is_exact() -> None:
    other = peer(delayed_ack=0.05)
    other.establish()
    assert other.stack.next_deadline() is None
    begin = other.now
    other.send(".", 1, b"text")
    assert other.stack.next_deadline() == begin + 0.05
    other.stack.handle_timeout(begin + 0.0499)
    assert other.answers() == []
    other.stack.handle_timeout(begin + 0.05)
    assert len(other.answers()) == 1
    assert other.stack.next_deadline() is None


def test_finished_connections_leave_the_heap() -> None:
    other = peer()
    for port in range(1, 200):
        other.send("S", 0, ports=(port, 80))
        event = other.stack.poll_event()
        connection = event.request.accept(None, other.now)  # type: ignore[union-attr]
        assert connection is not None
        connection.abort(other.now)
    list(other.stack.frames_to_send())
    assert other.stack.next_deadline() is None
    assert other.stack.deadlines._heap == []


def test_one_that_vanishes_before_it_is_rung_is_passed_over() -> None:
    """As a connection that only a cycle keeps, when the collector comes between the look and the call."""

    class Vanishing(Alarm):
        @property
        def timers(self) -> list[float]:
            alarms.pop("vanishing", None)
            return [1.0]

        @timers.setter
        def timers(self, timers: list[float]) -> None: ...

    deadlines = Deadlines()
    alarms = {"vanishing": Vanishing(), "staying": Alarm()}
    deadlines.schedule(alarms["vanishing"], 1.0)
    alarms["staying"].timers[0] = 2.0
    deadlines.schedule(alarms["staying"], 2.0)
    deadlines.run(2.0)
    assert list(alarms) == ["staying"]
    assert alarms["staying"].rung == [2.0]
    assert deadlines.earliest() is None
