from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from tests.interop.run import Case, Outcome, run_case

AT_ONCE = 8
"""Cases wait far more than they work."""


@pytest.fixture(scope="session")
def ask(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], Outcome]]:
    """The outcome of a case. The first who asks sets all going that this run is about, side by side."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare(1)")
    folder = tmp_path_factory.mktemp("interop")
    here = [item for item in request.session.items if item.path.parent == Path(__file__).parent]
    calls = [
        item.callspec for item in here if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    cases: list[Case] = [cast(Case, call.params["case"]) for call in calls if "case" in call.params]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: dict[Case, Future[Outcome]] = {case: pool.submit(run_case, case, folder) for case in cases}
        yield lambda case: running[case].result()
        pool.shutdown(cancel_futures=True)
