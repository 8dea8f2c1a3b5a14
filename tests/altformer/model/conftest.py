"""A tiny model and a batch for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape

TINY = {
    "embed_dim": 16,
    "num_heads": 4,
    "mlp_ratio": 2,
    "adaptive_dim": 6,
    "temporal_depth_1": 1,
    "spatial_depth_1": 1,
    "temporal_depth_2": 1,
    "spatial_depth_2": 1,
    "temporal_depth_3": 1,
    "spatial_depth_3": 1,
}
SHAPE = ForecastShape(num_sensors=5, input_len=12, output_len=3, steps_per_day=24)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws does not depend on which tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def shape() -> ForecastShape:
    return SHAPE


@pytest.fixture
def tiny() -> Callable[..., ModelConfig]:
    """A tiny configuration with some fields set otherwise."""
    return lambda **changes: ModelConfig(**TINY | changes)


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """A tiny model in evaluation mode, all its parameters moved off any special starting value."""

    def made(shape: ForecastShape = SHAPE, **changes) -> nn.Module:
        torch.manual_seed(1)
        model = build_model(ModelConfig(**TINY | changes), shape)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model.eval()

    return made


@pytest.fixture
def draw() -> Callable[..., tuple[Tensor, ...]]:
    """Random inputs of a model: reading, observed, time of day, day of week."""

    def drawn(shape: ForecastShape = SHAPE, batch: int = 2) -> tuple[Tensor, ...]:
        chance = torch.Generator().manual_seed(7)
        size = (batch, shape.input_len, shape.num_sensors)
        return (
            torch.randn(size, generator=chance),
            torch.rand(size, generator=chance) > 0.3,
            torch.randint(shape.steps_per_day, size[:2], generator=chance),
            torch.randint(7, size[:2], generator=chance),
        )

    return drawn
