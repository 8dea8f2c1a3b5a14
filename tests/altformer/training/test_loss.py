from __future__ import annotations

import pytest
import torch

from altformer.training.loss import LOSSES


@pytest.mark.parametrize(
    ("name", "expected_sum", "expected_count"),
    [("masked_mae", 0.5 + 3, 2), ("huber", 0.5 * 0.25 + 2.5, 2), ("mae_unmasked", 0.5 + 3 + 7, 3)],
)
def test_losses_by_hand(name, expected_sum, expected_count):
    target = torch.tensor([[[10.0, 20.0, 0.0]]])
    forecast = torch.tensor([[[10.5, 17.0, 7.0]]])
    observed = target != 0
    total, count = LOSSES[name].total(forecast, target, observed), LOSSES[name].count(observed)
    assert (float(total), int(count)) == pytest.approx((expected_sum, expected_count))


@pytest.mark.parametrize("name", ["masked_mae", "huber"])
def test_missing_targets_pull_at_nothing(name):
    target = torch.tensor([[[10.0, 0.0]]])
    forecast = torch.tensor([[[12.0, 55.0]]], requires_grad=True)
    LOSSES[name].total(forecast, target, target != 0).backward()
    assert forecast.grad is not None and forecast.grad[0, 0, 1] == 0 and forecast.grad[0, 0, 0] != 0
