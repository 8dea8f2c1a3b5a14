from __future__ import annotations

import numpy as np
import pytest
import torch

from altformer.baselines.dlinear import moving_average


@pytest.mark.parametrize("kernel_size", [1, 3, 25])
@pytest.mark.parametrize("steps", [1, 12, 40])
def test_moving_average_written_out(kernel_size, steps):
    series = torch.randn(2, 3, steps, generator=torch.Generator().manual_seed(0))
    reach = kernel_size // 2
    expected = np.empty(series.shape, dtype=np.float32)
    for step in range(steps):
        around = np.clip(np.arange(step - reach, step + reach + 1), 0, steps - 1)  # the ends stand for what lies beyond
        expected[..., step] = series.numpy()[..., around].mean(axis=-1)
    np.testing.assert_allclose(moving_average(series, kernel_size), expected, atol=1e-6)


def test_forecast_written_out(build, draw):
    model, inputs = build("dlinear"), draw()
    reading = inputs[0].numpy()
    trend = np.empty_like(reading)
    for step in range(12):
        trend[:, step] = reading[:, np.clip(np.arange(step - 12, step + 13), 0, 11)].mean(axis=1)
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    of_trend = np.einsum("ht,btn->bhn", weights["trend.weight"], trend) + weights["trend.bias"][:, None]
    of_rest = np.einsum("ht,btn->bhn", weights["remainder.weight"], reading - trend)
    expected = of_trend + of_rest + weights["remainder.bias"][:, None]
    np.testing.assert_allclose(model(*inputs).detach(), expected, atol=1e-5)
