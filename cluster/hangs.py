"""Which running cells have stood still for far longer than an epoch takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long nothing may move: `factor` times the usual epoch, but at least `least_seconds`.

    Until a cell of its arm has reported there is nothing to go by, and `first_seconds` are allowed: processes start,
    data travel, a model is compiled or fitted.
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
    usual: float = 0.0  # the longest epoch so far


class Stillness:
    """Counts, for every running cell, the time since it last moved.

    Time is given, not read: a driver that was itself suspended has seen no time pass.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._cells: dict[str, _Cell] = {}
        self._starts: dict[str, float] = {}  # longest time to a first report, by arm

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
            self._starts[cell.arm] = max(cell.since_report, self._starts.get(cell.arm, 0.0))
        cell.reported, cell.since_report, cell.still = True, 0.0, 0.0

    def look(self, moved: Mapping[str, int], elapsed: float) -> dict[str, float]:
        """Take in that `elapsed` seconds have passed; the cells that hang, with the seconds for which they do.

        `moved` counts the movements of cells that run; one that is missing waits for its processes and counts as still.
        """
        hanging = {}
        for key, cell in self._cells.items():
            cell.since_report += elapsed
            now = moved.get(key, cell.moved)
            cell.still = 0.0 if now != cell.moved else cell.still + elapsed
            cell.moved = now
            if cell.still > self.allowed(key):
                hanging[key] = cell.still
        return hanging

    def allowed(self, key: str) -> float:
        """Seconds that a running cell may stand still."""
        cell, patience = self._cells[key], self._patience
        if cell.reported:
            known = max(cell.usual, self._starts.get(cell.arm, 0.0))
        elif cell.arm in self._starts:
            known = self._starts[cell.arm]
        else:
            return patience.first_seconds
        return max(patience.least_seconds, patience.factor * known)
