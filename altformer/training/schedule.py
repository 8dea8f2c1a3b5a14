"""Learning rates as closed forms of the step, so that resuming needs no state; each agrees with torch's scheduler.

``rate`` gives that of a 0-based ``step`` of a run of ``steps`` optimizer steps, where the main rate is ``lr``.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from altformer.schema import Strict

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Constant(Strict):
    """The same rate throughout, after a linear warm-up over ``warmup_epochs`` (Goyal et al., 2017)."""

    type: Literal["constant"] = "constant"
    warmup_epochs: NotNegative = 0

    def rate(self, step: int, steps: int, steps_per_epoch: int, lr: float) -> float:
        """Learning rate at a 0-based step."""
        return lr * _warmup(step, self.warmup_epochs * steps_per_epoch)


class MultiStep(Strict):
    """The rate times ``gamma`` after each milestone (in epochs)."""

    type: Literal["MultiStepLR"] = "MultiStepLR"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = (20, 30)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup_epochs: NotNegative = 0

    def rate(self, step: int, steps: int, steps_per_epoch: int, lr: float) -> float:
        """Learning rate at a 0-based step."""
        passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
        return lr * self.gamma**passed * _warmup(step, self.warmup_epochs * steps_per_epoch)

    @model_validator(mode="after")
    def _milestones_rise(self) -> MultiStep:
        if any(later <= earlier for earlier, later in itertools.pairwise(self.milestones)):
            raise ValueError(f"milestones must rise strictly, got {list(self.milestones)}")
        return self


class Cosine(Strict):
    """Half a cosine from the rate down to ``eta_min`` over the run (Loshchilov and Hutter, 2017), after a warm-up."""

    type: Literal["CosineAnnealingLR"] = "CosineAnnealingLR"
    eta_min: NotNegative = 1e-5
    warmup_epochs: NotNegative = 0

    def rate(self, step: int, steps: int, steps_per_epoch: int, lr: float) -> float:
        """Learning rate at a 0-based step."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return lr * _warmup(step, warmup)
        return _cosine(lr, self.eta_min, (step - warmup) / max(1.0, steps - warmup))


class WarmRestarts(Strict):
    """Half cosines from the rate down to ``eta_min``, begun anew (Loshchilov and Hutter, 2017), after a warm-up.

    The first cycle lasts ``T_0`` epochs, each later one ``T_mult`` times the one before.
    """

    type: Literal["CosineAnnealingWarmRestarts"] = "CosineAnnealingWarmRestarts"
    T_0: int = Field(10, ge=1)
    T_mult: int = Field(2, ge=1)
    eta_min: NotNegative = 1e-5
    warmup_epochs: NotNegative = 0

    def rate(self, step: int, steps: int, steps_per_epoch: int, lr: float) -> float:
        """Learning rate at a 0-based step."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return lr * _warmup(step, warmup)
        since, cycle = step - warmup, self.T_0 * steps_per_epoch
        while since >= cycle:  # exact, where a logarithm would miss a restart by rounding
            since, cycle = since - cycle, cycle * self.T_mult
        return _cosine(lr, self.eta_min, since / cycle)


class OneCycle(Strict):
    """Up to ``max_lr`` over ``pct_start`` of the run, then down, both as half cosines (Smith and Topin, 2019).

    The rate alone: by default torch's scheduler of that name also cycles the momentum (Adam's beta1), ours does not.
    """

    type: Literal["OneCycleLR"] = "OneCycleLR"
    max_lr: Positive = 1e-3
    pct_start: float = Field(0.3, gt=0, lt=1)
    div_factor: float = Field(25.0, gt=1, allow_inf_nan=False)
    final_div_factor: float = Field(1e4, ge=1, allow_inf_nan=False)

    def rate(self, step: int, steps: int, steps_per_epoch: int, lr: float) -> float:
        """Learning rate at a 0-based step; ``max_lr`` takes the place of ``lr``."""
        start = self.max_lr / self.div_factor
        peak = max(0.0, self.pct_start * steps - 1)
        if step < peak:
            return _cosine(start, self.max_lr, step / peak)
        return _cosine(self.max_lr, start / self.final_div_factor, (step - peak) / max(1.0, steps - 1 - peak))

    @model_validator(mode="before")
    @classmethod
    def _only_cosine_annealing(cls, value: object) -> object:
        """The guide writes ``anneal_strategy: cos``, which is the only form there is."""
        if not isinstance(value, dict) or "anneal_strategy" not in value:
            return value
        if value["anneal_strategy"] != "cos":
            raise ValueError(f"anneal_strategy: only cos, got {value['anneal_strategy']!r}")
        return {key: item for key, item in value.items() if key != "anneal_strategy"}


ScheduleConfig = Constant | MultiStep | Cosine | WarmRestarts | OneCycle


def _warmup(step: int, warmup: float) -> float:
    """Linear from 1/warmup to 1."""
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
