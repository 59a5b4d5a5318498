"""A script, a host and a runner put together."""

from __future__ import annotations

from pathlib import Path

from tunsmith.testing.script.runner import Runner, ScriptFailure
from tunsmith.testing.script.settings import configured
from tunsmith.testing.script.stack_host import StackHost
from tunsmith.testing.script.statements import Script
from tunsmith.wire.ip import IPV4, IpFamily

NUMBERS = {4: (1000, 5000), 6: (0xFFFFFFFF, 0xFFFFFFF0)}
"""Initial sequence numbers of the peer and of the stack. In IPv6 they are about to wrap."""


def run_on_stack(script: Script, family: IpFamily = IPV4, *, capture: Path | None = None) -> None:
    """Run `script` on our stack in virtual time. Raises ScriptFailure, after writing what went over the
    wire to `capture`; ScriptError for settings that a stack does not have."""
    isn, iss = NUMBERS[family.version]
    host = StackHost(configured(script.settings, script.file), family, isn=isn, iss=iss)
    runner = Runner(script, host)
    try:
        runner.run()
    except ScriptFailure as failure:
        if capture is not None:
            capture.parent.mkdir(parents=True, exist_ok=True)
            runner.save(capture)
            failure.add_note(f"capture: {capture}")
        raise
