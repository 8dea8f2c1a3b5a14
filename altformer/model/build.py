"""From a configuration to a model."""

from __future__ import annotations

from torch import nn

from altformer.model.altformer import AltFormer
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape


def build_model(config: ModelConfig, shape: ForecastShape) -> nn.Module:
    """The model that `config` describes, initialized from torch's current seed; `UserError` when they do not fit."""
    return AltFormer(config, shape)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
