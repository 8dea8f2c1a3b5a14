"""STID: spatial and temporal identities. b: batch, t: input steps, h: output steps, n: sensors, d: width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.baselines.clock import day_fraction, day_number
from altformer.baselines.config import StidConfig
from altformer.model.dropout import Dropout
from altformer.model.shape import ForecastShape

_CHANNELS = 3  # reading, time of day, day of week
_DAYS = 7


class Stid(nn.Module):
    """Residual perceptrons over the series' embedding beside those of the sensor and the time (Shao et al., CIKM 2022).

    The series embedding reads three channels of every step: the reading, the fraction of the day and the day of the
    week (0..6), as the authors' code does; the embeddings of time are those of the last input step. With METR-LA's
    207 sensors and 288 slots that makes 117,868 weights, the 118 k of the published tables.
    """

    def __init__(self, config: StidConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.steps_per_day = shape.steps_per_day
        self.series = nn.Linear(_CHANNELS * shape.input_len, config.series_dim)
        self.sensor = _table(shape.num_sensors, config.sensor_dim)
        self.time_of_day = _table(shape.steps_per_day, config.time_of_day_dim)
        self.day_of_week = _table(_DAYS, config.day_of_week_dim)
        width = config.series_dim + config.sensor_dim + config.time_of_day_dim + config.day_of_week_dim
        self.layers = nn.Sequential(*(ResidualPerceptron(width, config.dropout) for _ in range(config.num_layers)))
        self.head = nn.Linear(width, shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled, (b,t) slots and (b,t) days -> (b,h,n); `observed` is not looked at, as published."""
        b, _, n = reading.shape
        clock = [day_fraction(time_of_day, self.steps_per_day, reading), day_number(day_of_week, reading)]
        # (b,3t,n)
        series = self.series(torch.cat([reading, *clock], dim=1).transpose(1, 2))
        # (b,n,d/4)
        identities = [
            self.sensor.expand(b, -1, -1),
            self.time_of_day[time_of_day[:, -1:]].expand(-1, n, -1),
            self.day_of_week[day_of_week[:, -1:]].expand(-1, n, -1),
        ]
        # 3 x (b,n,d/4)
        encoded = self.layers(torch.cat([series, *identities], dim=-1))
        # (b,n,d)
        forecast: Tensor = self.head(encoded).transpose(1, 2)
        # (b,h,n)
        return forecast


class ResidualPerceptron(nn.Module):
    """Two linear layers with ReLU and dropout between them, added to their input. (...,d) -> (...,d)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the last axis of `x`."""
        added: Tensor = x + self.outer(self.dropout(torch.relu(self.inner(x))))
        return added


def _table(rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, dim)))
