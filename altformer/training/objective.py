"""What a step minimizes: weighted terms, each a sum over values divided by a count that is known beforehand.

b: batch, h: output steps, n: sensors, k: terms
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from altformer.data.windows import Batch, Scaler, Windows
from altformer.errors import UserError
from altformer.training.config import TrainingConfig
from altformer.training.loss import LOSSES, Loss


class Objective(Protocol):
    """The terms of a run's loss, so that the sums and counts of all micro-batches and ranks can be joined exactly."""

    @property
    def weights(self) -> tuple[float, ...]:
        """How much each term counts, k of them."""

    def counts(self, batch: Batch) -> Tensor:
        """What the terms are divided by (k,), int64; needs no forecast."""

    def sums(self, forecast: Tensor, batch: Batch) -> Tensor:
        """The terms' sums (k,) for a forecast (b,h,n) in the data's unit."""


class Distillation:
    """(1-w) * error against the targets + w * mean |student - teacher| over all forecast values, in the data's unit.

    Hinton et al. (2015) soften class probabilities; a regression has none, so the teacher's forecast itself is the
    second target, also where no target was observed. The teacher is in evaluation mode and sees the student's inputs,
    augmented as they are.
    """

    def __init__(self, task: Loss, teacher: nn.Module, weight: float, scaler: Scaler, bf16: bool) -> None:
        self.weights: tuple[float, ...] = (1.0 - weight, weight)
        self._task, self._scaler, self._bf16 = task, scaler, bf16
        self._teacher = teacher.eval().requires_grad_(False)

    def counts(self, batch: Batch) -> Tensor:
        """Number of targets that count and of forecast values, (2,)."""
        task = self._task.counts(batch)
        return torch.cat([task, task.new_full((1,), batch.target.numel())])

    def sums(self, forecast: Tensor, batch: Batch) -> Tensor:
        """Sum of the error against the targets and of the distance to the teacher, (2,)."""
        with torch.no_grad():
            taught = forecast_of(self._teacher, batch, self._scaler, self._bf16)
        return torch.cat([self._task.sums(forecast, batch), (forecast - taught).abs().sum()[None]])


def make_objective(training: TrainingConfig, teacher: nn.Module | None, windows: Windows) -> Objective:
    """The objective a configuration asks for; UserError when it asks for a teacher and none is given."""
    task = LOSSES[training.loss]
    distillation = training.distillation
    if distillation is None:
        return task
    if teacher is None:
        raise UserError(
            f"training.distillation needs a teacher: the model of cell {distillation.teacher} was not given"
        )
    teacher = teacher.to(windows.values.device)
    return Distillation(task, teacher, distillation.weight, windows.scaler, training.precision == "bf16")


def forecast_of(model: Callable[..., Tensor], batch: Batch, scaler: Scaler, bf16: bool) -> Tensor:
    """The model's forecast (b,h,n) in the data's unit, float32; the forward pass in bf16 where asked."""
    with torch.autocast(batch.reading.device.type, torch.bfloat16, enabled=bf16):
        scaled = model(*batch.inputs)
    return scaler.unscale(scaled)


def weighted(weights: tuple[float, ...], sums: Tensor, counts: Tensor) -> Tensor:
    """The loss from its terms' sums (k,) and counts (k,); a term that counts nothing is 0."""
    terms = (sums / counts.clamp(min=1)).unbind()
    return torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()
