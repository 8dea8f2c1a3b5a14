"""STAEformer: a plain Transformer with adaptive embeddings.

b: batch, t: input steps, h: output steps, n: sensors, d: width; r: independent rows, s: tokens of a row
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.baselines.clock import day_fraction, day_number
from altformer.baselines.config import StaeformerConfig
from altformer.model.attention import attend, join_heads, split_heads
from altformer.model.dropout import Dropout
from altformer.model.encoder import FeedForward
from altformer.model.shape import ForecastShape

_CHANNELS = 3  # reading, time of day, day of week
_DAYS = 7


class Staeformer(nn.Module):
    """Attention over time, then over sensors, on readings beside learned identities (Liu et al., CIKM 2023).

    Spatio-Temporal Adaptive Embedding Makes Vanilla Transformer SOTA for Traffic Forecasting. The linear map of the
    readings also sees the fraction of the day and the day of the week (0..6), as in the authors' code: with METR-LA's
    207 sensors and 288 slots that makes 1,258,980 weights. Its optional sensor embedding is off as published (width 0)
    and left out here.
    """

    def __init__(self, config: StaeformerConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.steps_per_day = shape.steps_per_day
        self.reading = nn.Linear(_CHANNELS, config.reading_dim)
        self.time_of_day = nn.Embedding(shape.steps_per_day, config.time_of_day_dim)
        self.day_of_week = nn.Embedding(_DAYS, config.day_of_week_dim)
        adaptive = torch.empty(shape.input_len, shape.num_sensors, config.adaptive_dim)
        self.adaptive = nn.Parameter(nn.init.xavier_uniform_(adaptive))
        self.temporal = nn.Sequential(*(PostNormLayer(config) for _ in range(config.num_layers)))
        self.spatial = nn.Sequential(*(PostNormLayer(config) for _ in range(config.num_layers)))
        self.head = nn.Linear(shape.input_len * config.width, shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled, (b,t) slots and (b,t) days -> (b,h,n); `observed` is not looked at, as published."""
        x = self._embed(reading, time_of_day, day_of_week)
        # (b,t,n,d)
        b, t, n, _ = x.shape
        x = self.temporal(x.transpose(1, 2).flatten(0, 1))
        # (b*n,t,d)
        x = self.spatial(x.unflatten(0, (b, n)).transpose(1, 2).flatten(0, 1))
        # (b*t,n,d)
        forecast: Tensor = self.head(x.unflatten(0, (b, t)).transpose(1, 2).flatten(2)).transpose(1, 2)
        # (b,h,n)
        return forecast

    def _embed(self, reading: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """What is read, when and where, side by side: (b,t,n), (b,t), (b,t) -> (b,t,n,d)."""
        b, _, n = reading.shape
        clock = [day_fraction(time_of_day, self.steps_per_day, reading), day_number(day_of_week, reading)]
        parts = [
            self.reading(torch.stack([reading, *clock], dim=-1)),
            self.time_of_day(time_of_day)[:, :, None].expand(-1, -1, n, -1),
            self.day_of_week(day_of_week)[:, :, None].expand(-1, -1, n, -1),
            self.adaptive.expand(b, -1, -1, -1),
        ]
        return torch.cat(parts, dim=-1)


class PostNormLayer(nn.Module):
    """The original Transformer layer: each sum is normalized after it (Vaswani et al., 2017). (r,s,d) -> (r,s,d)."""

    def __init__(self, config: StaeformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.attention_norm = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward_dim)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each row of `x` (r,s,d)."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        x = self.attention_norm(x + self.dropout(self.out(join_heads(attend(query, key, value)))))
        normalized: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normalized
