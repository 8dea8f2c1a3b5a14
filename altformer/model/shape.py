"""The sizes a model learns from its data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from altformer.data.traffic import TrafficData


@dataclass(frozen=True)
class ForecastShape:
    """What is forecast from what: `input_len` steps of `num_sensors` sensors give their next `output_len` steps.

    `steps_per_day` is the number of time-of-day slots; `adjacency` is the road graph, (n,n) float32, for models that
    use one.
    """

    num_sensors: int
    input_len: int = 12
    output_len: int = 12
    steps_per_day: int = 288
    adjacency: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, data: TrafficData, input_len: int, output_len: int) -> ForecastShape:
        """The sizes of windows on a data set."""
        return cls(
            num_sensors=data.num_sensors,
            input_len=input_len,
            output_len=output_len,
            steps_per_day=data.steps_per_day,
            adjacency=data.adjacency,
        )
