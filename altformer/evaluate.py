"""One scoring for every forecaster: naive baselines and models, validation and test.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from altformer.data.windows import Split, Windows
from altformer.error_profile import ErrorProfile
from altformer.metrics import ErrorSums

Forecaster = Callable[[Tensor], Tensor]  # forecast origins (b,) -> forecast (b,h,n) in the data's unit

SCORING_BATCH = 64


def model_forecaster(model: nn.Module, windows: Windows) -> Forecaster:
    """The model, in evaluation mode and true float32, as a function of origins (b,): (b,h,n) in the data's unit."""

    def forecast(origins: Tensor) -> Tensor:
        model.eval()
        batch = windows.batch(origins)
        with true_float32(origins.device):
            return windows.scaler.unscale(model(*batch.inputs))

    return forecast


@contextmanager
def true_float32(device: torch.device) -> Iterator[None]:
    """Within it a CUDA device computes products and convolutions with all 23 bits of a float32's fraction.

    By default cuDNN's convolutions keep 10 of them (TF32). The settings before come back, also after an error; on other
    devices nothing is touched.
    """
    if device.type != "cuda":
        yield
        return
    set_back = _use_all_bits()
    try:
        yield
    finally:
        set_back()


def _use_all_bits() -> Callable[[], None]:
    """Set CUDA's precision of float32; returns what sets it back."""
    backends: Any = torch.backends  # parts of which have no types
    try:
        convolutions, products = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # somebody uses torch's newer settings; beside them the older ones refuse to be read
        kinds = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        before = [kind.fp32_precision for kind in kinds]

        def each(values: list[str]) -> None:
            for kind, value in zip(kinds, values, strict=True):
                kind.fp32_precision = value

        each(["ieee"] * len(kinds))
        return lambda: each(before)

    def both(allow_tf32: bool, precision: str) -> None:
        backends.cudnn.allow_tf32 = allow_tf32
        torch.set_float32_matmul_precision(precision)

    both(False, "highest")
    return lambda: both(convolutions, products)


def score(
    forecaster: Forecaster,
    windows: Windows,
    split: Split,
    stride: int = 1,
    rank: int = 0,
    world_size: int = 1,
    profile: ErrorProfile | None = None,
) -> dict[str, Any]:
    """Errors of a forecaster over one part of the data, by horizon and over all steps.

    Returns ``{"3": {"mae", "rmse", "mape"}, ..., "all": {...}, "mae_unmasked": float, "windows": int}``, MAE and RMSE
    in the unit of the data, MAPE in percent. Every ``stride``-th forecast origin is scored. With several ranks each
    scores its own share and all get the exact total. ``profile`` gets the same errors, to be told apart by time of day
    and sensor.
    """
    origins = windows.origins[split][::stride]
    sums = ErrorSums(windows.output_len, windows.values.device)
    with torch.inference_mode():
        for chunk in torch.split(origins[rank::world_size], SCORING_BATCH):
            batch = windows.batch(chunk)
            forecast = forecaster(chunk)
            sums.add(forecast, batch.target, batch.target_observed)
            if profile is not None:
                profile.add(chunk, forecast, batch.target, batch.target_observed)
    if world_size > 1:
        sums.reduce()
        if profile is not None:
            profile.reduce()
    return {**sums.scores(), "mae_unmasked": sums.mae_unmasked(), "windows": len(origins)}
