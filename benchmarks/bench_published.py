"""STAEformer computed as its authors do: attention as matrix product, softmax, matrix product.

The yardstick of benchmarks.bench_staeformer. The same function and the same weights as ours
(altformer/baselines/staeformer.py, which uses fused attention), but the operations are those of the authors' code (Liu
et al., CIKM 2023): one linear map each for query, key and value, heads side by side along the batch, every attention
weight written to memory, torch's own dropout.

b: batch, t: input steps, h: output steps, n: sensors, d: width, s: what is attended over (t or n)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.baselines.config import StaeformerConfig
from altformer.model.shape import ForecastShape

PUBLISHED_PARAMETERS = 1_258_980  # with METR-LA's 207 sensors
_TIME, _SENSORS = 1, 2  # axes of (b,t,n,d)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention whose weights are written out, (...,s,c) each -> (...,s,c)."""
    scores = (query @ key.transpose(-1, -2)) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value


class WrittenOutAttention(nn.Module):
    """Self-attention over the second-last axis of (b,.,s,d)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(b,.,s,d) -> (b,.,s,d)."""
        heads = (
            torch.cat(torch.split(part(x), self.head_width, dim=-1), dim=0)
            for part in (self.query, self.key, self.value)
        )
        joined: Tensor = self.out(torch.cat(torch.split(written_out(*heads), len(x), dim=0), dim=-1))
        return joined


class PublishedLayer(nn.Module):
    """Attention over one axis of (b,t,n,d), then two linear maps of each token; every sum is normalized after it."""

    def __init__(self, config: StaeformerConfig, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.attention = WrittenOutAttention(config.width, config.num_heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.feed_forward_dim),
            nn.ReLU(inplace=True),
            nn.Linear(config.feed_forward_dim, config.width),
        )
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention_dropout, self.feed_forward_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(b,t,n,d) -> (b,t,n,d)."""
        x = x.transpose(self.axis, -2)
        x = self.attention_norm(x + self.attention_dropout(self.attention(x)))
        x = self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x)))
        return x.transpose(self.axis, -2)


class PublishedStaeformer(nn.Module):
    """The published model, with the same call as ours."""

    def __init__(self, config: StaeformerConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.steps_per_day = shape.steps_per_day
        self.reading = nn.Linear(3, config.reading_dim)
        self.time_of_day = nn.Embedding(shape.steps_per_day, config.time_of_day_dim)
        self.day_of_week = nn.Embedding(7, config.day_of_week_dim)
        adaptive = torch.empty(shape.input_len, shape.num_sensors, config.adaptive_dim)
        self.adaptive = nn.Parameter(nn.init.xavier_uniform_(adaptive))
        self.temporal = nn.ModuleList(PublishedLayer(config, _TIME) for _ in range(config.num_layers))
        self.spatial = nn.ModuleList(PublishedLayer(config, _SENSORS) for _ in range(config.num_layers))
        self.head = nn.Linear(shape.input_len * config.width, shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled, (b,t) slots and (b,t) days -> (b,h,n); `observed` is not looked at."""
        b, t, n = reading.shape
        slot = time_of_day[:, :, None].expand(b, t, n)
        day = day_of_week[:, :, None].expand(b, t, n)
        channels = torch.stack([reading, slot.to(reading.dtype) / self.steps_per_day, day.to(reading.dtype)], dim=-1)
        parts = (
            self.reading(channels),
            self.time_of_day(slot),
            self.day_of_week(day),
            self.adaptive.expand(b, t, n, -1),
        )
        x = torch.cat(parts, dim=-1)
        # (b,t,n,d)
        for layer in (*self.temporal, *self.spatial):
            x = layer(x)
        flat = x.transpose(1, 2).reshape(b, n, -1)
        # (b,n,t*d)
        forecast: Tensor = self.head(flat).transpose(1, 2)
        # (b,h,n)
        return forecast
