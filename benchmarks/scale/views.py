"""What it costs to look at a simulated matrix half-way: live table, line of progress, gauges; and a cell's plots."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.metrics import Metrics
from cluster.progress import LiveTable, summary
from cluster.tally import Tally
from cluster.work import Ended, Work
from experiments.cell import read_record
from experiments.cell_plots import draw_cell_plots

ASKED = (0.1, 0.25, 0.5, 0.75)  # shares of the cells that have ended, at which the time left is asked for
HALF = 0.5
TIMES = 3


class Nowhere(io.StringIO):
    """A file that forgets, and counts what it has been given."""

    letters = 0

    def write(self, text: str) -> int:
        self.letters += len(text)
        return len(text)


class Watcher(Tally):
    """Asks for the time left now and then, as a person would, to be held against what it was.

    Half-way, looks at all there is to see.
    """

    def __init__(self, metric: str, clock: Callable[[], float], gauges: Metrics) -> None:
        super().__init__(metric, clock=clock)
        self.said: list[tuple[float, float, float | None]] = []  # share of cells, seconds so far, said to be left
        self.views: dict[str, float] = {}
        self._gauges, self._ended = gauges, 0

    def cell_ended(self, work: Work, ended: Ended) -> None:
        super().cell_ended(work, ended)
        self._ended += 1
        if len(self.said) < len(ASKED) and self._ended >= (share := ASKED[len(self.said)]) * len(self.rows):
            self.said.append((share, self._clock() - self.began, self.eta()))
            if share == HALF:
                self.views = self._looked()

    def _looked(self) -> dict[str, float]:
        table = LiveTable(Console(file=Nowhere(), width=120, height=50), self.metric, clock=self._clock)
        table.rows, table.slots = self.rows, self.slots
        return {
            "table_seconds": seconds_of(table.render),
            "summary_seconds": seconds_of(lambda: summary(self)),
            "gauges_seconds": seconds_of(self._gauges.samples),
            "gauges": len(self._gauges.samples()),
        }


def plot_seconds(folder: Path) -> float | None:
    """What drawing the plots of one finished cell below a folder takes; None without one."""
    done = (at for at in sorted(folder.glob("cells/*")) if (read_record(at) or {}).get("status") == "done")
    cell = next(done, None)
    if cell is None:
        return None
    record: dict[str, Any] = read_record(cell) or {}
    draw_cell_plots(cell, record)  # fonts are found only once
    return seconds_of(lambda: draw_cell_plots(cell, record))


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time of this thread for one call, the least of some."""
    found = []
    for _ in range(TIMES):
        began = time.thread_time()
        work()
        found.append(time.thread_time() - began)
    return min(found)
