"""One scoring for every forecaster: naive baselines and models, validation and test.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from altformer.data.windows import Split, Windows
from altformer.metrics import ErrorSums

Forecaster = Callable[[Tensor], Tensor]  # forecast origins (b,) -> forecast (b,h,n) in the data's unit

SCORING_BATCH = 64


def model_forecaster(model: nn.Module, windows: Windows) -> Forecaster:
    """The model, in evaluation mode and float32, as a function of forecast origins (b,): (b,h,n) in the data's unit."""

    def forecast(origins: Tensor) -> Tensor:
        model.eval()
        batch = windows.batch(origins)
        return windows.scaler.unscale(model(batch.reading, batch.observed, batch.time_of_day, batch.day_of_week))

    return forecast


def score(
    forecaster: Forecaster, windows: Windows, split: Split, stride: int = 1, rank: int = 0, world_size: int = 1
) -> dict[str, Any]:
    """Errors of a forecaster over one part of the data, by horizon and over all steps.

    Returns ``{"3": {"mae", "rmse", "mape"}, ..., "all": {...}, "mae_unmasked": float, "windows": int}``; every
    ``stride``-th forecast origin is scored. With several ranks each scores its own share and all get the exact total.
    """
    origins = windows.origins[split][::stride]
    sums = ErrorSums(windows.output_len, windows.values.device)
    with torch.inference_mode():
        for chunk in torch.split(origins[rank::world_size], SCORING_BATCH):
            batch = windows.batch(chunk)
            sums.add(forecaster(chunk), batch.target, batch.target_observed)
    if world_size > 1:
        sums.reduce()
    return {**sums.scores(), "mae_unmasked": sums.mae_unmasked(), "windows": len(origins)}
