from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altformer.metrics import ErrorSums


def numpy_scores(forecast, target, observed):
    """The same metrics written out in numpy, per step and over all."""

    def scores(f, y, m):
        error = np.abs(f.astype(np.float64) - y)
        nonzero = m & (y != 0)
        return {
            "mae": error[m].mean(),
            "rmse": np.sqrt((error[m] ** 2).mean()),
            "mape": 100 * (error[nonzero] / np.abs(y[nonzero])).mean(),
        }

    steps = {str(k): scores(forecast[:, k - 1], target[:, k - 1], observed[:, k - 1]) for k in (3, 6, 12)}
    return steps | {"all": scores(forecast, target, observed)}


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0, 0.9), st.floats(1, 500))
def test_torch_agrees_with_numpy_over_any_batches(seed, batch_size, missing, scale):
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.1, 1, (20, 12, 5)).astype(np.float32) * np.float32(scale)
    observed = rng.random(target.shape) >= missing
    observed[0] = True
    target[~observed] = 0
    forecast = (target + rng.normal(0, 0.1 * scale, target.shape)).astype(np.float32)
    sums = ErrorSums(12)
    for start in range(0, 20, batch_size):
        part = slice(start, start + batch_size)
        sums.add(*(torch.tensor(array[part]) for array in (forecast, target, observed)))
    expected = numpy_scores(forecast, target, observed)
    for step, values in sums.scores().items():
        assert values == pytest.approx(expected[step], rel=1e-5)
    assert sums.mae_unmasked() == pytest.approx(np.abs(forecast.astype(float) - target).mean(), rel=1e-5)


def test_missing_targets_count_only_in_the_unmasked_mae():
    target = torch.tensor([[[0.0, 10.0]]])
    forecast = torch.tensor([[[60.0, 12.0]]])
    sums = ErrorSums(1)
    sums.add(forecast, target, target != 0)
    assert sums.scores()["all"] == pytest.approx({"mae": 2, "rmse": 2, "mape": 20})
    assert sums.mae_unmasked() == pytest.approx(31)


def test_observed_zeros_stay_out_of_the_mape_alone():
    target = torch.tensor([[[0.0, 10.0]]])
    sums = ErrorSums(1)
    sums.add(target + 1, target, torch.ones_like(target, dtype=torch.bool))
    assert sums.scores()["all"] == pytest.approx({"mae": 1, "rmse": 1, "mape": 10})


@pytest.mark.parametrize(
    ("output_len", "steps"), [(12, ["3", "6", "12", "all"]), (4, ["3", "4", "all"]), (1, ["1", "all"])]
)
def test_steps_beyond_the_horizon_are_left_out(output_len, steps):
    sums = ErrorSums(output_len)
    target = torch.ones(2, output_len, 3)
    sums.add(target, target, target > 0)
    assert list(sums.scores()) == steps
