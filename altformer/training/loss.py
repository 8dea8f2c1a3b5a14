"""Losses on unscaled targets, element by element, so that what a step divides by is known before its forward pass.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from altformer.data.windows import Batch


@dataclass(frozen=True)
class Loss:
    """An error per element, and which targets it is summed over; the `Objective` where there is no teacher."""

    error: Callable[[Tensor, Tensor], Tensor]  # forecast, target -> error, all (b,h,n) in the data's unit
    scores_missing: bool = False
    weights: ClassVar[tuple[float, ...]] = (1.0,)

    def counts(self, batch: Batch) -> Tensor:
        """How many targets count, (1,) int64."""
        return self._scored(batch).sum()[None]

    def sums(self, forecast: Tensor, batch: Batch) -> Tensor:
        """Sum of the error of a forecast (b,h,n) over the targets that count, (1,)."""
        return (self.error(forecast, batch.target) * self._scored(batch)).sum()[None]

    def _scored(self, batch: Batch) -> Tensor:
        """Which targets count, (b,h,n) bool."""
        observed = batch.target_observed
        return torch.ones_like(observed) if self.scores_missing else observed


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
