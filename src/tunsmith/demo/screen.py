"""The facts as a person sees them: one screen of 80 columns and 24 lines, more where there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tunsmith.demo.client import Flow
from tunsmith.demo.facts import Act, Facts, Stage, Transfer

FRAMES_PER_SECOND = 10
WIDE = 100
"""Columns from which on addresses and times are shown as well."""

_PATH = {"program": 11, "TUN": 4, "TCP/IP stack": 12, "rule": 4, "upstream": 8, "server": 21}
"""The stations of a packet, and how many columns the words below each take at most."""
_EXAMPLE = ("curl, ping…", "tun0", "pure Python", "via", "socks5", "vault.demo.example:80")
_ARROW = "─▶"
_BAR = 28


class Screen:
    """Shows `facts` on `console`: moving while entered where it is a terminal, once at the end elsewhere."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._live: Live | None = None
        self._painter: asyncio.Task[None] | None = None
        self._spinner = Spinner("dots")

    async def __aenter__(self) -> Screen:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._frame)
            self._live.start()
            self._painter = asyncio.ensure_future(self._paint(self._live))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._painter is not None and self._live is not None:
            self._painter.cancel()
            self._live.stop()

    def show_result(self) -> None:
        """What there is to say at the end; where nothing moved, that is everything. Raises OSError."""
        if self._live is None:
            self._console.print(self._frame())

    async def _paint(self, live: Live) -> None:
        while True:
            live.refresh()
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    def _frame(self) -> RenderableType:
        title = Text.assemble(
            ("tunsmith demo", "bold"), "  a private internet of its own; nothing else is touched"
        )
        return Group(title, "", self._path(), "", self._flows(), "", self._findings())

    # --- the path of a packet ---

    def _path(self) -> Table:
        """Where packets pass, and below it what that is for the program which is running."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        act = self._facts.now
        lit = int(time.monotonic() * FRAMES_PER_SECOND) % len(_PATH) if act else -1
        stations: list[RenderableType] = []
        for index, (station, width) in enumerate(_PATH.items()):
            if index:
                grid.add_column(style="dim")
                stations.append(_ARROW)
            grid.add_column(min_width=width, no_wrap=True)
            stations.append(Text(station, "bold reverse" if index == lit else "bold cyan"))
        grid.add_row(*stations)
        example = _EXAMPLE
        if act is not None:
            scene = act.scene
            example = (scene.label, "tun0", scene.protocol, "…", _scheme(scene.via), scene.target)
        first, *rest = example
        grid.add_row(first, *(cell for word in rest for cell in ("", word)))
        return grid

    # --- flows ---

    def _flows(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold cyan")
        for heading in ("program", "flow", *(["address"] if self._wide else []), "rule", "upstream"):
            table.add_column(heading, no_wrap=True)
        for heading in ("up", "down", *(["time"] if self._wide else [])):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        via = ""
        for act in self._facts.acts:
            if via and act.scene.via != via:
                table.add_row()
            via = act.scene.via
            table.add_row(*self._row(act), style="dim" if act.stage is Stage.AHEAD else "")
        return table

    def _row(self, act: Act) -> Iterator[RenderableType]:
        scene, flow = act.scene, act.flow
        yield scene.label
        yield f"{scene.protocol} {scene.target}"
        if self._wide:
            yield _address(flow) if flow else ""
        yield flow.rule if flow else ""
        yield _scheme(flow.upstream if flow else scene.via)
        yield f"{flow.up} B" if flow else ""
        yield f"{flow.down} B" if flow else ""
        if self._wide:
            yield f"{flow.seconds * 1000:.1f} ms" if flow else ""
        yield self._verdict(act)

    def _verdict(self, act: Act) -> RenderableType:
        if act.stage is Stage.AHEAD:
            return ""
        if act.stage is Stage.NOW:
            return self._spinner
        return Text(f"✘ {act.verdict}", "bold red") if act.fault else Text(f"✔ {act.verdict}", "green")

    # --- the rest ---

    def _findings(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="bold cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        facts = self._facts
        grid.add_row("names", self._names())
        grid.add_row("speed", self._transfer(facts.without))
        grid.add_row("", self._transfer(facts.behind))
        grid.add_row("capture", f"{facts.capture}  (the one thing left behind)" if facts.capture else "")
        for fault in facts.faults():
            grid.add_row("fault", Text(f"✘ {fault}", "bold red"))
        if facts.capture and not facts.faults():
            grid.add_row("result", Text(f"✔ all {len(facts.acts)} programs fared as expected", "green"))
        return grid

    def _names(self) -> str:
        names = self._facts.names
        if names.stage is Stage.AHEAD:
            return ""
        asked = ", ".join(name.split(".")[0] for name in names.proxy)
        heard = ", ".join(names.leaked) or "nothing"
        return f"the proxy was asked for {asked} as names; DNS outside heard {heard}"

    def _transfer(self, transfer: Transfer) -> Table:
        facts = self._facts
        grid = Table.grid(padding=(0, 1))
        if transfer.stage is Stage.AHEAD:
            grid.add_row(transfer.label)
            return grid
        part = transfer.progress
        if facts.ratio is not None:
            part = transfer.rate / max(facts.without.rate, facts.behind.rate)
        rate = f"{transfer.rate / 1e9:5.1f} Gbit/s"
        ratio = f"{facts.ratio:.0%} of that" if facts.ratio is not None and transfer is facts.behind else ""
        grid.add_row(transfer.label, ProgressBar(1.0, part, _BAR), rate, ratio)
        return grid

    @property
    def _wide(self) -> bool:
        return self._console.width >= WIDE


def _address(flow: Flow) -> str:
    return flow.destination.rpartition(":")[0].strip("[]")


def _scheme(url: str) -> str:
    return url.partition(":")[0]
