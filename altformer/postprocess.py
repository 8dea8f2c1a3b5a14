"""Causal post-processing of forecasts: what is issued at time s uses only readings before s.

s: forecast origins of a part in time order, h: output steps, n: sensors, T: rows of the data set
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from altformer.data.windows import Split, Windows
from altformer.errors import UserError, unknown_name
from altformer.evaluate import SCORING_BATCH, Forecaster, score

Metric = Literal["mae", "mae_unmasked"]


class Series(NamedTuple):
    """The forecasts issued at every origin of a part, without a hole, in time order."""

    first: int  # row of the data set that the first forecast starts at
    forecasts: Tensor  # (s,h,n) in the data's unit

    def forecaster(self) -> Forecaster:
        """The series as a function of forecast origins (b,): (b,h,n)."""
        return lambda origins: self.forecasts[origins - self.first]


def forecast_series(forecaster: Forecaster, windows: Windows, split: Split) -> Series:
    """Forecasts at every origin of a part, also where scoring takes only every so-many-th."""
    origins = windows.origins[split]
    with torch.inference_mode():
        parts = [forecaster(chunk) for chunk in torch.split(origins, SCORING_BATCH)]
    return Series(int(origins[0]), torch.cat(parts))


def smooth(series: Series, windows: Windows, alpha: float) -> Series:
    """Exponential smoothing (Brown, 1956) over successive forecasts of the same target row.

    out_s[k] = alpha f_s[k] + (1 - alpha) out_{s-1}[k+1]; the last step and the part's first forecast have no
    predecessor and stay. ``alpha`` 1 changes nothing. The state is float64; readings are not looked at.
    """
    smoothed = series.forecasts.clone()
    before = series.forecasts[0].double()
    for s in range(1, len(smoothed)):
        now = series.forecasts[s].double()
        now[:-1] = alpha * now[:-1] + (1 - alpha) * before[1:]
        smoothed[s] = now
        before = now
    return Series(series.first, smoothed)


def kalman(series: Series, windows: Windows, ratio: float) -> Series:
    """Take off each sensor's and step's bias, a random walk tracked by a Kalman filter (Kalman, 1960).

    Bias b and its variance p are (h,n), both 0 at the part's first origin, with the variance of a residual as unit:
    p grows by ``ratio`` = q/r a step. At the origin s the row before it has become known, and with it one residual of
    each step k, that of the forecast issued k steps earlier: e = reading[s-1] - f[s-1-k][k]. Where it is observed,
    gain g = p / (p + 1), b += g (e - b), p *= 1 - g. The forecast issued at s is f_s + b. Residuals are those of the
    uncorrected forecasts. ``ratio`` 0 changes nothing. The state is float64.
    """
    forecasts = series.forecasts
    steps = torch.arange(forecasts.shape[1], device=forecasts.device)
    bias = torch.zeros_like(forecasts[0], dtype=torch.float64)
    variance = torch.zeros_like(bias)
    corrected = forecasts.clone()
    for s in range(len(forecasts)):
        issued = s - 1 - steps  # which forecast had this row as its step k, (h,)
        reading = windows.values[series.first + s - 1]
        known = (issued >= 0)[:, None] & (reading != windows.null_value)
        residual = reading.double() - forecasts[issued.clamp(min=0), steps].double()
        variance = variance + ratio
        gain = torch.where(known, variance / (variance + 1), 0.0)
        bias = bias + gain * (residual - bias)
        variance = (1 - gain) * variance
        corrected[s] = forecasts[s].double() + bias
    return Series(series.first, corrected)


class Method(NamedTuple):
    """A way of post-processing: its function, the name of its parameter, the values that are tried."""

    apply: Callable[[Series, Windows, float], Series]
    parameter: str
    grid: tuple[float, ...]  # the first one changes nothing


METHODS: dict[str, Method] = {
    "exponential": Method(smooth, "alpha", (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)),
    "kalman": Method(kalman, "q/r", (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0)),
}


@dataclass(frozen=True)
class Outcome:
    """A method with the parameter chosen on validation, and both parts' scores with it."""

    method: str
    parameter: str
    value: float
    grid: dict[float, float]  # value -> error on the validation part by which it was chosen
    val: dict[str, Any]
    test: dict[str, Any]


@dataclass(frozen=True)
class PostProcessed:
    """Scores without post-processing and with each method, over the same windows."""

    val: dict[str, Any]
    test: dict[str, Any]
    outcomes: tuple[Outcome, ...]


def postprocess(
    methods: list[str],
    forecaster: Forecaster,
    windows: Windows,
    *,
    val_stride: int = 1,
    test_stride: int = 1,
    metric: Metric = "mae",
) -> PostProcessed:
    """Choose each method's parameter on the validation part, then score validation and test before and after.

    The filters run over every origin; scored is every ``stride``-th. The choice leaves out the last validation
    forecasts, whose targets reach into the test part. Each part starts anew, with nothing carried over from the rows
    before it. Raises UserError for an unknown method or a validation part without a window to choose by.
    """
    for name in methods:
        if name not in METHODS:
            raise unknown_name("method of post-processing", name, METHODS)
    val = forecast_series(forecaster, windows, "val")
    grids = {name: _errors(METHODS[name], val, windows, val_stride, metric) for name in methods}
    test = forecast_series(forecaster, windows, "test")

    def scores(val: Series, test: Series) -> tuple[dict[str, Any], dict[str, Any]]:
        return (
            score(val.forecaster(), windows, "val", val_stride),
            score(test.forecaster(), windows, "test", test_stride),
        )

    outcomes = []
    for name, grid in grids.items():
        apply, parameter, _ = METHODS[name]
        best = min(grid, key=grid.__getitem__)  # the first of equals: rather no change
        after = scores(apply(val, windows, best), apply(test, windows, best))
        outcomes.append(Outcome(name, parameter, best, grid, *after))
    return PostProcessed(*scores(val, test), tuple(outcomes))


def _errors(method: Method, val: Series, windows: Windows, stride: int, metric: Metric) -> dict[float, float]:
    return {value: choice_error(method.apply(val, windows, value), windows, stride, metric) for value in method.grid}


def choice_error(part: Series, windows: Windows, stride: int = 1, metric: Metric = "mae") -> float:
    """Error over the validation windows whose targets end before the test part begins."""
    inside = windows.origins["val"]
    inside = inside[inside + windows.output_len <= windows.origins["test"][0]]
    if len(inside) == 0:
        raise UserError(f"the validation part is shorter than {windows.output_len} steps: nothing to choose by")
    found = score(part.forecaster(), replace(windows, origins={**windows.origins, "val": inside}), "val", stride)
    error = found["mae_unmasked"] if metric == "mae_unmasked" else found["all"]["mae"]
    if error is None:
        raise UserError("no target of the validation part is observed: nothing to choose by")
    return float(error)
