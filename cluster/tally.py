"""The state of all cells of a matrix, from what a listener is told, and how long the rest will take."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.eta import GOES_ON, Forecast, Row
from cluster.work import Ended, Fault, Listener, Work

Clock = Callable[[], float]

# As they are listed.
ORDER = ("running", *GOES_ON, "done", "stopped", "diverged", "failed", "interrupted", "waiting")


class Tally(Listener):
    """Keeps the state of all cells, and from it how long the rest will take. Of `metric` less is better."""

    def __init__(self, metric: str = "val_mae", clock: Clock = time.monotonic) -> None:
        self.metric = metric
        self.rows: dict[str, Row] = {}
        self.slots = 1
        self.began = 0.0
        self._clock = clock

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """Start with every cell waiting."""
        self.rows = {work.key: Row(work) for work in works}
        self.slots = slots
        self.began = self._clock()

    def slots_changed(self, slots: int) -> None:
        """More or fewer cells at once from now on."""
        self.slots = slots

    def cell_started(self, work: Work) -> None:
        """The cell runs from now, or goes on after a pause or a lost attempt."""
        now, row = self._clock(), self.rows[work.key]
        if row.status in GOES_ON:
            row.resume(now)
        else:
            self.rows[work.key] = Row(work, "running", began=now, first_epoch_at=now, last_epoch_at=now)

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """Count the epoch and keep the best metric."""
        row = self.rows[work.key]
        row.last_epoch_at = self._clock()
        new = not row.epoch
        row.epoch = int(metrics.get("epoch", row.epoch + 1))
        if new:
            row.first_epoch, row.first_epoch_at = row.epoch, row.last_epoch_at
        value = metrics.get(self.metric)
        if isinstance(value, (int, float)) and math.isfinite(value):
            row.best = float(value) if row.best is None else min(row.best, float(value))

    def cell_paused(self, work: Work) -> None:
        """The cell waits; its slot is free."""
        self._leave(work, "paused")

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """The cell waits for another attempt, which goes on from its last checkpoint."""
        self._leave(work, "retried")
        self.rows[work.key].retries = retries

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """The cell has its status, and the time its slot was taken."""
        row = self.rows[work.key]
        row.status, row.seconds = ended.status, ended.seconds

    def _leave(self, work: Work, status: str) -> None:
        row = self.rows[work.key]
        row.status, row.paused_at = status, self._clock()
        row.seconds = row.paused_at - row.began

    def elapsed(self, row: Row) -> float:
        """Seconds in its slot so far."""
        return self._clock() - row.began if row.status == "running" else row.seconds

    def counts(self) -> dict[str, int]:
        """Cells by status."""
        found = [row.status for row in self.rows.values()]
        return {status: found.count(status) for status in ORDER if status in found}

    def eta(self) -> float | None:
        """Seconds until the last cell ends, by handing waiting and paused ones to slots as they fall free.

        None if unknown. See `Forecast` for what each cell is expected to take.
        """
        forecast = Forecast(list(self.rows.values()))
        free = [forecast.left(row, self.elapsed(row)) for row in self.rows.values() if row.status == "running"]
        waits = [forecast.left(row, row.seconds) for row in self.rows.values() if row.status in GOES_ON]
        waits += [forecast.whole(row) for row in self.rows.values() if row.status == "waiting"]
        slots = [seconds for seconds in free if seconds is not None]
        known = [seconds for seconds in waits if seconds is not None]
        if len(slots) < len(free) or len(known) < len(waits):
            return None
        slots += [0.0] * (max(self.slots, 1) - len(slots))
        heapq.heapify(slots)
        for seconds in known:
            heapq.heapreplace(slots, slots[0] + seconds)
        return max(slots)
