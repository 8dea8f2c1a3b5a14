"""From readings and the clock to tokens. Shapes: b batch, t input steps, n sensors, p steps per token, d width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from altformer.model.config import ModelConfig
from altformer.model.dropout import Dropout
from altformer.model.shape import ForecastShape

TABLE_STD = 0.02


def sincos_positions(length: int, dim: int) -> Tensor:
    """Fixed sine / cosine positions (length,dim), Vaswani et al. (2017)."""
    step = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10000.0) / dim))
    return torch.stack([torch.sin(step * rate), torch.cos(step * rate)], dim=-1).flatten(1)


def _table(*size: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*size) * TABLE_STD)


class InputEmbedding(nn.Module):
    """Sum of a linear map of each token's readings and what is known about its time and its sensor.

    The window becomes `tokens` tokens of consecutive readings of one sensor, each with the flag whether it was
    observed; a reading that was not observed enters as 0, whatever stands in the data for it. Time of day and day of
    week are those of the token's last step. A switch that is off leaves no table behind. Tokens of several steps are
    those of PatchTST (Nie et al., 2023), the adaptive table is STAEformer's (Liu et al., 2023).
    """

    def __init__(self, config: ModelConfig, shape: ForecastShape, tokens: int) -> None:
        super().__init__()
        dim, n = config.embed_dim, shape.num_sensors
        self.patch_len = shape.input_len // tokens
        self.position: Tensor | None
        self.reading = nn.Linear(2 * self.patch_len, dim)
        self.time_of_day = _table(shape.steps_per_day, dim) if config.use_time_of_day else None
        self.day_of_week = _table(7, dim) if config.use_day_of_week else None
        self.sensor = _table(n, 1, dim) if config.use_sensor_identity else None
        self.adaptive = _table(n, tokens, config.adaptive_dim) if config.use_adaptive else None
        self.adaptive_project = nn.Linear(config.adaptive_dim, dim, bias=False) if config.use_adaptive else None
        if config.positional_encoding_type == "learnable":
            self.position = _table(tokens, dim)
        else:
            positions = sincos_positions(tokens, dim) if config.positional_encoding_type == "sincos" else None
            self.register_buffer("position", positions, persistent=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled, (b,t,n) bool, (b,t) slot, (b,t) day -> (b,n,t/p,d)."""
        flag = observed.to(reading.dtype)
        known = reading.masked_fill(~observed, 0.0)
        b, t, n = reading.shape
        both = torch.stack([known, flag], dim=-1).transpose(1, 2)
        tokens = self.reading(both.reshape(b, n, t // self.patch_len, 2 * self.patch_len))
        for part in (self.place_features(b), self._time_features(time_of_day, day_of_week)):
            if part is not None:
                tokens = tokens + part
        embedded: Tensor = self.dropout(tokens)
        return embedded

    def place_features(self, samples: int) -> Tensor | None:
        """What does not depend on the sample, (n,t/p,d) or what broadcasts to it: summed before it meets the batch."""
        adaptive = self.adaptive_project(self.adaptive) if self.adaptive_project is not None else None
        return _sum([self.sensor, adaptive, self.position])

    def _time_features(self, time_of_day: Tensor, day_of_week: Tensor) -> Tensor | None:
        """What is the same for all sensors, (b,1,t/p,d)."""
        last = slice(self.patch_len - 1, None, self.patch_len)
        slot = self.look_up(self.time_of_day, time_of_day[:, last]) if self.time_of_day is not None else None
        day = self.look_up(self.day_of_week, day_of_week[:, last]) if self.day_of_week is not None else None
        total = _sum([slot, day])
        return None if total is None else total[:, None]

    def look_up(self, table: Tensor, number: Tensor) -> Tensor:
        """(rows,d), (b,t/p) -> (b,t/p,d)."""
        return table[number]


def _sum(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return sum(present[1:], present[0]) if present else None
