"""What a matrix may cost at most: hours, GPU-hours, cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Limits of one run of a matrix; None is no limit. Running cells keep their last checkpoint when one is reached.

    ``hours`` are of the clock, ``gpu_hours`` the hours that trials hold GPUs times the GPUs they hold, ``cells`` the
    number of cells that are started.
    """

    hours: float | None = None
    gpu_hours: float | None = None
    cells: int | None = None
