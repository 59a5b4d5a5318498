"""The benchmark's arithmetic: medians, ratios, goals and the page they land in."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.contenders import CONTENDERS
from bench.cost import Cost, kibibytes
from bench.goals import goals
from bench.namespaces import BenchError
from bench.report import markdown, write_markdown
from bench.runs import Plan, Results, Run
from bench.workloads import WORKLOADS, Outcome, wrk_outcome


def results(**values: tuple[float, ...]) -> Results:
    """Results of `tcp-up-1`, direct, with the values of each contender; NaN stands for a failed run."""
    plan = Plan(
        contenders=CONTENDERS,
        workloads=tuple(each for each in WORKLOADS if each.name == "tcp-up-1"),
        probes=(),
        modes=("direct",),
        seconds=1,
        repeat=3,
        family=4,
        congestion="cubic",
    )
    made = Results(plan)
    for name, numbers in values.items():
        for number in numbers:
            outcome = Outcome(number, 1e9, 1.0) if number == number else None
            made.runs.append(Run("direct", "tcp-up-1", name, outcome, Cost(0.25, 0.5)))
    return made


def test_the_median_of_a_cell_counts_not_the_mean():
    assert results(tunsmith=(10.0, 1.0, 11.0)).value("direct", "tcp-up-1", "tunsmith") == 10.0


def test_a_cell_without_a_good_run_has_no_value():
    assert results(tunsmith=(float("nan"),)).value("direct", "tcp-up-1", "tunsmith") is None


def test_peers_are_shown_as_multiples_of_tunsmith_and_failed_runs_are_marked():
    page = markdown(results(tunsmith=(10.0,), pasta=(5.0, float("nan")), slirp4netns=(float("nan"),)))
    assert "| 10 |" in page
    assert "| 5 (0.50) † |" in page
    assert "| failed |" in page


def test_processor_time_is_divided_by_the_work_done():
    assert results(tunsmith=(10.0,)).cpu_per_unit("direct", "tcp-up-1", "tunsmith") == (0.25e-9, 0.5e-9)


def test_goals_compare_with_the_best_of_the_peers():
    made = results(**{"tunsmith": (12.0,), "sing-box system": (10.0,), "sing-box gvisor": (4.0,)})
    judged = {goal.text: goal for goal in goals(made)}
    assert judged["direct tcp-up-1 against sing-box"].measured == pytest.approx(1.2)
    assert not judged["direct tcp-up-1 against sing-box"].holds
    assert judged["direct tcp-up-1 against the best peer"].holds
    assert "direct tcp-up-1 against no proxy" not in judged


def test_the_table_replaces_what_stands_between_the_markers(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    for _ in range(2):
        write_markdown(results(tunsmith=(10.0,)), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("TCP up, 1 stream, Gbit/s") == 1


def test_a_page_without_markers_is_left_alone(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("mine\n")
    with pytest.raises(BenchError, match="markers"):
        write_markdown(results(tunsmith=(10.0,)), page)
    assert page.read_text() == "mine\n"


WRK = """Running 2s test @ http://10.77.1.2:80/small
  1 threads and 50 connections
  34000 requests in 2.05s, 11.35MB read
{errors}Requests/sec:  16585.37
Transfer/sec:      5.54MB
"""


def test_wrk_gives_thousands_of_requests_per_second():
    outcome = wrk_outcome(WRK.format(errors=""))
    assert outcome.value == pytest.approx(16.58537)
    assert (outcome.units, outcome.seconds) == (34000, 2.05)


def test_wrk_with_many_errors_is_no_result():
    errors = "  Socket errors: connect 0, read 900, write 0, timeout 3\n"
    with pytest.raises(BenchError, match="903 errors"):
        wrk_outcome(WRK.format(errors=errors))


def test_fields_of_proc_files_are_bytes():
    assert kibibytes("VmPeak:\t   10 kB\nVmHWM:\t    8 kB\n", "VmHWM") == 8192
    assert kibibytes("VmPeak:\t   10 kB\n", "VmHWM") == 0
