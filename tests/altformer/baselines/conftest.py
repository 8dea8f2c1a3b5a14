"""Small shapes, a batch for them, and every baseline in a small size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from altformer.baselines.config import BaselineConfig
from altformer.model.build import BASELINES
from altformer.model.shape import ForecastShape

CONFIGS = {kind().type: kind for kind in get_args(BaselineConfig)}
SMALL = {
    "mlp": {"hidden_dim": 16},
    "stid": {"series_dim": 4, "sensor_dim": 4, "time_of_day_dim": 4, "day_of_week_dim": 4},
    "graph_wavenet": {"residual_dim": 4, "skip_dim": 8, "end_dim": 8, "sensor_dim": 3},
    "staeformer": {"reading_dim": 4, "time_of_day_dim": 4, "day_of_week_dim": 4, "adaptive_dim": 4, "num_layers": 1},
}
ADJACENCY = np.array(
    [
        [1.0, 0.5, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.8, 0.0, 0.2],
        [0.0, 0.3, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],  # a sensor without roads
        [0.9, 0.0, 0.0, 0.0, 1.0],
    ],
    dtype=np.float32,
)
SHAPE = ForecastShape(num_sensors=5, input_len=12, output_len=3, steps_per_day=24, adjacency=ADJACENCY)


@pytest.fixture
def shape() -> ForecastShape:
    return SHAPE


@pytest.fixture
def small() -> Callable[..., Any]:
    """The configuration of a small baseline with some fields set otherwise."""
    return lambda name, **changes: CONFIGS[name](**SMALL.get(name, {}) | changes)


@pytest.fixture
def build(small: Callable[..., Any]) -> Callable[..., nn.Module]:
    """A small baseline in evaluation mode, with its state moved off any special starting value."""

    def made(name: str, shape: ForecastShape = SHAPE, **changes) -> nn.Module:
        torch.manual_seed(1)
        model = BASELINES[name](small(name, **changes), shape)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
            if name == "historical_average":
                model.table.copy_(torch.randn_like(model.table))
        return model.eval()

    return made


@pytest.fixture
def draw() -> Callable[..., tuple[Tensor, ...]]:
    """Random inputs of a model: reading, observed, time of day, day of week."""

    def drawn(shape: ForecastShape = SHAPE, batch: int = 4) -> tuple[Tensor, ...]:
        chance = torch.Generator().manual_seed(7)
        size = (batch, shape.input_len, shape.num_sensors)
        return (
            torch.randn(size, generator=chance),
            torch.rand(size, generator=chance) > 0.3,
            torch.randint(shape.steps_per_day, size[:2], generator=chance),
            torch.randint(7, size[:2], generator=chance),
        )

    return drawn
