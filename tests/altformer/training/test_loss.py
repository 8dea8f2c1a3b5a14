from __future__ import annotations

import pytest
import torch

from altformer.data.windows import Batch
from altformer.training.loss import LOSSES


def aiming_at(target):
    """A batch of which the loss sees the targets; zeros are missing."""
    return Batch(*[torch.empty(0)] * 4, target, target != 0)


@pytest.mark.parametrize(
    ("name", "expected_sum", "expected_count"),
    [("masked_mae", 0.5 + 3, 2), ("huber", 0.5 * 0.25 + 2.5, 2), ("mae_unmasked", 0.5 + 3 + 7, 3)],
)
def test_losses_by_hand(name, expected_sum, expected_count):
    target = torch.tensor([[[10.0, 20.0, 0.0]]])
    forecast = torch.tensor([[[10.5, 17.0, 7.0]]])
    total, count = LOSSES[name].sums(forecast, aiming_at(target)), LOSSES[name].counts(aiming_at(target))
    assert (float(total), int(count)) == pytest.approx((expected_sum, expected_count))


@pytest.mark.parametrize("name", ["masked_mae", "huber"])
def test_missing_targets_pull_at_nothing(name):
    target = torch.tensor([[[10.0, 0.0]]])
    forecast = torch.tensor([[[12.0, 55.0]]], requires_grad=True)
    LOSSES[name].sums(forecast, aiming_at(target)).backward()
    assert forecast.grad is not None and forecast.grad[0, 0, 1] == 0 and forecast.grad[0, 0, 0] != 0
