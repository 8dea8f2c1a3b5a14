"""Naive forecasts that every model must beat; they learn nothing or only an average.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from altformer.data.windows import Windows

Forecaster = Callable[[Tensor], Tensor]  # forecast origins (b,) -> forecast (b,h,n) in the data's unit


def copy_last(windows: Windows) -> Forecaster:
    """Repeat the last h readings as the forecast of the next h."""
    back = torch.arange(-windows.output_len, 0, device=windows.values.device)
    return lambda origins: windows.values[origins[:, None] + back]


def last_value(windows: Windows) -> Forecaster:
    """Repeat the last reading h times."""
    return lambda origins: windows.values[origins - 1][:, None].expand(-1, windows.output_len, -1)


def historical_average(windows: Windows) -> Forecaster:
    """Mean reading of a sensor at the same time of the week.

    Averages the rows up to the last training target, missing readings left out; a time of the week at which a sensor
    was never observed gets that sensor's mean, a sensor never observed the mean of all.
    """
    rows = int(windows.origins["train"][-1]) + windows.output_len
    slots_per_day = int(windows.time_of_day.max()) + 1
    time_of_week = windows.day_of_week * slots_per_day + windows.time_of_day
    past = windows.values[:rows].double()
    observed = (windows.values[:rows] != windows.null_value).double()
    sums = past.new_zeros(7 * slots_per_day, past.shape[1]).index_add_(0, time_of_week[:rows], past * observed)
    counts = torch.zeros_like(sums).index_add_(0, time_of_week[:rows], observed)
    overall = sums.sum() / counts.sum()
    sensor_count = counts.sum(dim=0)
    sensor_mean = torch.where(sensor_count > 0, sums.sum(dim=0) / sensor_count.clamp(min=1), overall)
    table = torch.where(counts > 0, sums / counts.clamp(min=1), sensor_mean).float()
    ahead = torch.arange(windows.output_len, device=windows.values.device)
    return lambda origins: table[time_of_week[origins[:, None] + ahead]]


BASELINES: dict[str, Callable[[Windows], Forecaster]] = {
    "copy-last": copy_last,
    "last-value": last_value,
    "historical-average": historical_average,
}
