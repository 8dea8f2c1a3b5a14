"""How long the cells of a matrix will take, from what the plan expected and from what the clock has said since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.work import Work

#: Statuses of cells that have begun and go on when there is a slot for them.
GOES_ON = ("paused", "retried")


@dataclass
class Row:
    """One cell's state; times on the tally's clock, which stands still for a cell that is paused."""

    work: Work
    status: str = "waiting"
    epoch: int = 0
    first_epoch: int = 0  # the first one that was reported: a cell that is resumed goes on from its checkpoint
    best: float | None = None
    began: float = 0.0
    first_epoch_at: float = 0.0
    last_epoch_at: float = 0.0
    paused_at: float = 0.0
    seconds: float = 0.0
    retries: int = 0

    @property
    def pace(self) -> float | None:
        """Seconds per epoch; from the second on, since the first contains what starting took."""
        if self.has_own_pace:
            return (self.last_epoch_at - self.first_epoch_at) / (self.epoch - self.first_epoch)
        return self.first_epoch_at - self.began if self.epoch else None

    @property
    def has_own_pace(self) -> bool:
        """Whether an epoch has been seen from its beginning to its end."""
        return self.epoch > self.first_epoch and self.last_epoch_at > self.first_epoch_at

    @property
    def start(self) -> float:
        """Seconds before the first epoch began: processes and imports, in a slot's first cell."""
        return max(self.first_epoch_at - self.began - (self.pace or 0.0), 0.0)

    @property
    def tail(self) -> float:
        """Seconds that an ended cell took after its last epoch."""
        return max(self.seconds - (self.last_epoch_at - self.began), 0.0)

    @property
    def left(self) -> int | None:
        """Epochs to go, if their number is known."""
        return None if self.work.epochs is None else max(self.work.epochs - self.epoch, 0)

    def resume(self, now: float) -> None:
        """Go on after a pause, which takes no part in any time of the cell."""
        pause = now - self.paused_at
        self.status = "running"
        self.began += pause
        self.first_epoch_at += pause
        self.last_epoch_at += pause


class Forecast:
    """What cells are expected to take, as of now.

    A running cell is expected to take its remaining epochs at its own pace, and then as long as ended ones took after
    their last. A waiting cell takes what the plan expected of it, times how much longer than expected the cells took
    that have ended (stopped ones count, as more will be) or have shown their pace. Where the plan expected nothing it
    takes as long as ended ones on average, before any has ended its epochs at the average pace. What starting a slot's
    processes took is not expected again.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        ended = [row for row in rows if row.status in ("done", "stopped", "diverged")]
        self._pace = _mean([row.pace for row in rows if row.pace is not None])
        self._usual = _mean([row.seconds - row.start for row in ended])
        self._tail = _mean([row.tail for row in ended if row.status == "done"])
        self._factor = self._slower(rows, ended)

    def whole(self, row: Row) -> float | None:
        """Seconds in its slot of a cell that waits."""
        if row.work.expected_seconds is not None:
            return row.work.expected_seconds * self._factor
        return self._usual if self._usual is not None else _times(row.work.epochs, self._pace)

    def left(self, row: Row, elapsed: float) -> float | None:
        """Seconds still to go of a cell that has been in a slot for so long."""
        if row.epoch and (row.has_own_pace or row.work.expected_seconds is None):
            epochs = _times(row.left, row.pace)
            if epochs is not None:
                return max(epochs + (self._tail or 0.0) - (elapsed - (row.last_epoch_at - row.began)), 0.0)
        whole = self.whole(row)
        return None if whole is None else max(whole + row.start - elapsed, 0.0)

    def _slower(self, rows: Sequence[Row], ended: Sequence[Row]) -> float:
        """How many times longer than expected cells take: all seconds that are known over all that were expected."""
        took = [(row.seconds - row.start, row.work.expected_seconds) for row in ended]
        for row in rows:
            if row.status in ("running", *GOES_ON) and row.has_own_pace:
                planned = _times(row.left, row.pace)
                if planned is not None:
                    so_far = row.last_epoch_at - row.began - row.start
                    took.append((so_far + planned + (self._tail or 0.0), row.work.expected_seconds))
        known = [(seconds, expected) for seconds, expected in took if expected]
        expected_in_all = sum(expected for _, expected in known)
        return sum(seconds for seconds, _ in known) / expected_in_all if expected_in_all else 1.0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _times(epochs: int | None, pace: float | None) -> float | None:
    return None if epochs is None or pace is None else epochs * pace
