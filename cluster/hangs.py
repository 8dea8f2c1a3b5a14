"""Which running cells have stood still for far longer than an epoch takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long nothing may move: `factor` times the cell's longest epoch, but at least `least_seconds`.

    Until it has ended two, the longest time to a first epoch in the matrix stands for it. Before a cell's processes
    have come for it, which may have to wait for room, and until a cell of its arm has reported, there is nothing to go
    by, and `first_seconds` are allowed: data travel, a model is compiled or fitted.
    """

    factor: float = 10.0
    least_seconds: float = 60.0
    first_seconds: float = 900.0


@dataclass
class _Cell:
    arm: str
    moved: int = -1
    still: float = 0.0  # seconds without a movement
    since_report: float = 0.0
    reported: bool = False
    usual: float = 0.0  # the longest epoch after the first


class Stillness:
    """Counts, for every running cell, the time since it last moved.

    Time is given, not read: a driver that was itself suspended has seen no time pass.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._cells: dict[str, _Cell] = {}
        self._arms: set[str] = set()  # that have reported
        self._start = 0.0  # longest time to a first report: not all begin in a process that is warm

    def started(self, key: str, arm: str) -> None:
        """A cell has a slot, anew or again."""
        self._cells[key] = _Cell(arm)

    def ended(self, key: str) -> None:
        """It has none any more."""
        self._cells.pop(key, None)

    def reported(self, key: str) -> None:
        """A cell has ended an epoch: now it is known what one takes."""
        if (cell := self._cells.get(key)) is None:
            return
        if cell.reported:
            cell.usual = max(cell.usual, cell.since_report)
        else:
            self._arms.add(cell.arm)
            self._start = max(self._start, cell.since_report)
        cell.reported, cell.since_report, cell.still = True, 0.0, 0.0

    def look(self, moved: Mapping[str, int], elapsed: float) -> dict[str, float]:
        """Take in that `elapsed` seconds have passed; the cells that hang, with the seconds for which they do.

        `moved` counts the movements of cells that run; one that is missing, or 0, waits for its processes.
        """
        hanging = {}
        for key, cell in self._cells.items():
            now = moved.get(key, cell.moved)
            cell.since_report += elapsed if now > 0 else 0.0
            cell.still = 0.0 if now != cell.moved else cell.still + elapsed
            cell.moved = now
            if cell.still > self.allowed(key):
                hanging[key] = cell.still
        return hanging

    def allowed(self, key: str) -> float:
        """Seconds that a running cell may stand still."""
        cell, patience = self._cells[key], self._patience
        if cell.moved <= 0 or cell.arm not in self._arms:
            return max(patience.first_seconds, patience.factor * self._start)
        return max(patience.least_seconds, patience.factor * (cell.usual or self._start))
