"""Whether a configuration can be trained on some readings at all, found out before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows, fit_scaler, split_origins
from altformer.errors import UserError
from altformer.model.build import build_model
from altformer.model.own import as_raised
from altformer.model.own_config import OwnModelConfig
from altformer.model.shape import ForecastShape


def check_fit(config: Config, data: TrafficData) -> nn.Module:
    """The model of a configuration, built for the data; UserError where model, windows and readings do not fit.

    A user's own model also makes one forecast, so that a forward pass that cannot be called fails here and not in
    every cell of a matrix. Leaves torch's random numbers as they were.
    """
    source = config.dataset
    origins = split_origins(len(data.values), data.split, source.input_len, source.output_len)
    fit_scaler(data.values, origins["train"], source.input_len)
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, ForecastShape.of(config, data))
        if isinstance(config.model, OwnModelConfig):
            first = Windows.of(data, source.input_len, source.output_len)
            batch = first.batch(first.origins["train"][:2])
            _forecast_once(model, tuple(batch[:4]), config.model.class_path)
    return model


def _forecast_once(model: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    except UserError:
        raise
    except Exception as error:
        if "cuda" in str(error).lower():  # it needs a GPU, which this machine may lack although the cluster has some
            return
        raise UserError(
            f"model.class: {name} cannot forecast: model(reading, observed, time_of_day, day_of_week) raised "
            f"{as_raised(error)}"
        ) from error
    finally:
        model.train(training)
