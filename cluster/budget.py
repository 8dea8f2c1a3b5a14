"""What a matrix may cost at most: hours, GPU-hours, cells."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Spent:
    """What a run has cost: hours of the clock, hours that trials held GPUs times the GPUs they held, cells started."""

    hours: float = 0.0
    gpu_hours: float = 0.0
    cells: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.hours + other.hours, self.gpu_hours + other.gpu_hours, self.cells + other.cells)


NOTHING = Spent()


@dataclass(frozen=True)
class Budget:
    """Limits of one command; None is no limit. What runs when one is reached keeps its last checkpoint.

    ``spent`` is what earlier parts of the command have cost, such as another matrix.
    """

    hours: float | None = None
    gpu_hours: float | None = None
    cells: int | None = None
    spent: Spent = NOTHING

    def after(self, spent: Spent) -> Budget:
        """The same limits for the next part of the command."""
        return replace(self, spent=self.spent + spent)

    @property
    def cells_left(self) -> int | None:
        """How many cells may be started; None is no limit."""
        return None if self.cells is None else max(self.cells - self.spent.cells, 0)

    def reached(self, now: Spent = NOTHING) -> str | None:
        """The limit in time that is reached, in words, ``now`` being what this part has cost; None without one."""
        total = self.spent + now
        if self.hours is not None and total.hours >= self.hours:
            return f"{self.hours:g} {'hour' if self.hours == 1 else 'hours'}"
        if self.gpu_hours is not None and total.gpu_hours >= self.gpu_hours:
            return f"{self.gpu_hours:g} GPU-{'hour' if self.gpu_hours == 1 else 'hours'}"
        return None


NO_BUDGET = Budget()
