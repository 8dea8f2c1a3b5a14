"""Losses on unscaled targets, as sum and count so that masks of different size can be averaged without bias.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

SumAndCount = tuple[Tensor, Tensor]


def masked_mae(forecast: Tensor, target: Tensor, observed: Tensor) -> SumAndCount:
    """Absolute error over observed targets; all arguments (b,h,n)."""
    return ((forecast - target).abs() * observed).sum(), observed.sum()


def huber(forecast: Tensor, target: Tensor, observed: Tensor) -> SumAndCount:
    """Huber loss (1964) with delta 1 in the data's unit, over observed targets."""
    return (F.huber_loss(forecast, target, reduction="none") * observed).sum(), observed.sum()


def mae_unmasked(forecast: Tensor, target: Tensor, observed: Tensor) -> SumAndCount:
    """Absolute error over all targets, missing ones as zeros: the guide's loss."""
    return (forecast - target).abs().sum(), observed.new_full((), observed.numel(), dtype=observed.int().dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], SumAndCount]] = {
    "masked_mae": masked_mae,
    "huber": huber,
    "mae_unmasked": mae_unmasked,
}
