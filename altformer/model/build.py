"""From a configuration to a model; both tables are by the name that `model.type` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from altformer.baselines.dlinear import DLinear
from altformer.baselines.graph_wavenet import GraphWaveNet
from altformer.baselines.historical_average import HistoricalAverage
from altformer.baselines.mlp import Mlp
from altformer.baselines.naive import CopyLast, LastValue
from altformer.baselines.staeformer import Staeformer
from altformer.baselines.stid import Stid
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.model.altformer import AltFormer
from altformer.model.own import build_own
from altformer.model.shape import ForecastShape

BASELINES: dict[str, Callable[[Any, ForecastShape], nn.Module]] = {
    "copy_last": CopyLast,
    "last_value": LastValue,
    "historical_average": HistoricalAverage,
    "mlp": Mlp,
    "dlinear": DLinear,
    "stid": Stid,
    "graph_wavenet": GraphWaveNet,
    "staeformer": Staeformer,
}
MODELS: dict[str, Callable[[Any, ForecastShape], nn.Module]] = {"altformer": AltFormer, **BASELINES, "own": build_own}


def build_model(config: Any, shape: ForecastShape) -> nn.Module:
    """The model that `config` (any member of `Config.model`) describes, initialized from torch's current seed.

    UserError when the two do not fit.
    """
    return MODELS[config.type](config, shape)


def fitted_model(config: Any, data: TrafficData, windows: Windows) -> nn.Module:
    """As `build_model`, for the windows of `data` and on their device.

    A model that has a `fit` has looked at the training part: what is found in closed form, not by steps.
    """
    model = build_model(config, ForecastShape.of(data, windows.input_len, windows.output_len))
    model = model.to(windows.values.device)
    fit = getattr(model, "fit", None)
    if fit is not None:
        fit(windows)
    return model


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
