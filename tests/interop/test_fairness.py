"""One flow of ours and one of the kernel's CUBIC through the same bottleneck: neither starves the other.

Published figures are those of bench/fairness.py, over longer times and more paths; here only the coarse truth is
held, in bytes, so that a busy machine cannot break it: it delays both alike.
"""

from __future__ import annotations

import os

import pytest

from bench.emulated import in_a_process
from bench.fairness import Run


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_flow_of_ours_does_not_starve_one_of_the_kernels__rfc9438_4_3(seed: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    rate, rtt = 1_250_000.0, 0.04
    ours, kernel = in_a_process("bench.fairness", Run("ours kernel", rate, rtt, rate * rtt, 20.0, seed))
    assert min(ours, kernel) > 0.2 * (ours + kernel)
