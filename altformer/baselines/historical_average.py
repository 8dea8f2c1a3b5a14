"""The mean of the past at the same time of the week.

b: batch, t: input steps, h: output steps, n: sensors, w: times of the week
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.baselines.config import HistoricalAverageConfig
from altformer.data.windows import Windows
from altformer.model.shape import ForecastShape

DAYS = 7


class HistoricalAverage(nn.Module):
    """Forecasts the mean training reading of a sensor at the same time of the week, whatever the input reads.

    The times ahead are counted on from the last input step. Until it is fitted (or its state is loaded) the forecast
    is NaN: there is no average to give.
    """

    def __init__(self, config: HistoricalAverageConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.steps_per_day = shape.steps_per_day
        self.table: Tensor
        self.ahead: Tensor
        self.register_buffer("table", torch.full((DAYS * shape.steps_per_day, shape.num_sensors), torch.nan))
        self.register_buffer("ahead", torch.arange(1, shape.output_len + 1), persistent=False)

    def fit(self, windows: Windows) -> None:
        """Average the rows up to the last training target, missing readings left out.

        A time of the week at which a sensor was never observed gets that sensor's mean, a sensor never observed the
        mean of all. The table (w,n) is kept in scaled units, as forecasts are.
        """
        rows = int(windows.origins["train"][-1]) + windows.output_len
        time_of_week = (windows.day_of_week * self.steps_per_day + windows.time_of_day)[:rows]
        past = windows.values[:rows].double()
        observed = (windows.values[:rows] != windows.null_value).double()
        sums = past.new_zeros(self.table.shape).index_add_(0, time_of_week, past * observed)
        counts = torch.zeros_like(sums).index_add_(0, time_of_week, observed)
        overall = sums.sum() / counts.sum()
        sensor_count = counts.sum(dim=0)
        sensor_mean = torch.where(sensor_count > 0, sums.sum(dim=0) / sensor_count.clamp(min=1), overall)
        table = torch.where(counts > 0, sums / counts.clamp(min=1), sensor_mean)
        self.table.copy_(windows.scaler.scale(table))

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """`time_of_day` (b,t) slots and `day_of_week` (b,t) -> (b,h,n) scaled; the readings are not looked at."""
        now = day_of_week[:, -1:] * self.steps_per_day + time_of_day[:, -1:]
        return self.table[(now + self.ahead) % len(self.table)]
