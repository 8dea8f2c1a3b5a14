"""Whether a configuration can be trained on some readings at all, found out before anything is written."""

from __future__ import annotations

import torch
from torch import nn

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.model.build import build_model
from altformer.model.config import OwnModelConfig
from altformer.model.own import check_forward
from altformer.model.shape import ForecastShape


def check_fit(config: Config, data: TrafficData) -> nn.Module:
    """The model of a configuration, built for the data; UserError where model, windows and readings do not fit.

    A user's own model also makes one forecast, so that a forward pass that cannot be called fails here and not in
    every cell of a matrix. Leaves torch's random numbers as they were.
    """
    windows = Windows.of(data, config.dataset.input_len, config.dataset.output_len)
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, ForecastShape.of(data, windows.input_len, windows.output_len))
        if isinstance(config.model, OwnModelConfig):
            check_forward(config.model, model, windows.batch(windows.origins["train"][:2]))
    return model
