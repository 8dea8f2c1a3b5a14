"""Losses on unscaled targets, element by element, so that what a step divides by is known before its forward pass.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Loss:
    """An error per element, and which targets it is summed over."""

    error: Callable[[Tensor, Tensor], Tensor]  # forecast, target -> error, all (b,h,n) in the data's unit
    scores_missing: bool = False

    def scored(self, observed: Tensor) -> Tensor:
        """Which targets count, from those observed: (b,h,n) bool -> (b,h,n) bool."""
        return torch.ones_like(observed) if self.scores_missing else observed

    def total(self, forecast: Tensor, target: Tensor, observed: Tensor) -> Tensor:
        """Sum of the error over the targets that count; all arguments (b,h,n)."""
        return (self.error(forecast, target) * self.scored(observed)).sum()

    def count(self, observed: Tensor) -> Tensor:
        """How many targets that sum has, int64."""
        return self.scored(observed).sum()


def absolute(forecast: Tensor, target: Tensor) -> Tensor:
    """Absolute error per element."""
    return (forecast - target).abs()


def huber(forecast: Tensor, target: Tensor) -> Tensor:
    """Huber loss (1964) per element, with delta 1 in the data's unit."""
    return F.huber_loss(forecast, target, reduction="none")


LOSSES: dict[str, Loss] = {
    "masked_mae": Loss(absolute),
    "huber": Loss(huber),
    "mae_unmasked": Loss(absolute, scores_missing=True),  # missing targets as zeros: the guide's loss
}
