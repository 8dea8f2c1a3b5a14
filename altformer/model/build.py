"""From a configuration to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from altformer.baselines.models import MODELS as BASELINES
from altformer.model.altformer import AltFormer
from altformer.model.own import build_own
from altformer.model.shape import ForecastShape

MODELS: dict[str, Callable[[Any, ForecastShape], nn.Module]] = {"altformer": AltFormer, **BASELINES, "own": build_own}


def build_model(config: Any, shape: ForecastShape) -> nn.Module:
    """The model that `config` (any member of `Config.model`) describes, initialized from torch's current seed.

    UserError when the two do not fit.
    """
    return MODELS[config.type](config, shape)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
