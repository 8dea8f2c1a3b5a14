"""Everything that decides how a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from altformer.schema import Strict
from altformer.training.schedule import Constant, Cosine, Positive, ScheduleConfig, WarmRestarts


class LrGroups(Strict):
    """A rate for each part of the model in place of the one ``lr``: the guide's layer-wise rates.

    A weight belongs to the part its outermost module is named after: ``decoder*``, ``head*``, else encoder.
    """

    encoder: Positive = 3e-4
    decoder: Positive = 5e-4
    head: Positive = 1e-3


class OptimizerConfig(Strict):
    """AdamW, Adam, or Muon for the inner matrices and AdamW for all else.

    AdamW decouples the weight decay (Loshchilov and Hutter, 2019), Adam adds it to the gradient as an L2 penalty
    (Kingma and Ba, 2015), Muon makes the steps of a matrix orthogonal (Jordan et al., 2024).
    """

    type: Literal["AdamW", "Adam", "Muon"] = "AdamW"
    lr_groups: LrGroups | None = None


class AugmentationConfig(Strict):
    """Small changes to the training windows, off by default (see augmentation.py).

    ``noise_std`` is in scaled units, ``mask_ratio`` the share of readings made missing, ``temporal_shift`` in steps.
    """

    noise_std: float = Field(0.0, ge=0, allow_inf_nan=False)
    mask_ratio: float = Field(0.0, ge=0, lt=1)
    temporal_shift: int = Field(0, ge=0)


class DistillationConfig(Strict):
    """Learn also from a teacher's forecasts: a trained cell, by its hash, and the weight of its part of the loss."""

    teacher: str = Field(pattern=r"^[0-9a-f]{16}$")
    weight: float = Field(0.5, ge=0, le=1)


class TrainingConfig(Strict):
    """Training options; the defaults are the guide's baseline.

    ``batch_size`` is global over all workers; an optimizer step sees ``gradient_accumulation_steps`` of them.
    ``patience`` ends a run after that many epochs without a better validation (see `selection_metric`).
    With an ``ema_decay`` (0: none) an average of the weights over the steps is validated and kept (see average.py).
    Over the first ``horizon_curriculum`` epochs (0: none) the loss comes to see one forecast step after the other.
    ``steps_per_epoch`` limits an epoch to that many optimizer steps of its random order (None: all of them).
    """

    batch_size: int = Field(32, ge=1)
    gradient_accumulation_steps: int = Field(1, ge=1)
    epochs: int = Field(150, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    patience: int = Field(30, ge=1)
    lr: float = Field(5e-4, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(5.0, gt=0, allow_inf_nan=False)
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: ScheduleConfig = Field(default=Constant(), discriminator="type")
    ema_decay: float = Field(0.0, ge=0, lt=1)
    horizon_curriculum: int = Field(0, ge=0)
    loss: Literal["masked_mae", "huber", "mae_unmasked"] = "masked_mae"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup_alpha: float = Field(0.0, ge=0, allow_inf_nan=False)
    cutmix_prob: float = Field(0.0, ge=0, le=1)
    augmentation: AugmentationConfig = AugmentationConfig()
    distillation: DistillationConfig | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    @field_validator("scheduler", "optimizer", mode="before")
    @classmethod
    def _name_is_short_for_type(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _every_rate_is_used(self) -> TrainingConfig:
        if self.optimizer.lr_groups is not None and self.scheduler.type == "OneCycleLR":
            raise ValueError(
                "optimizer.lr_groups cannot be combined with scheduler OneCycleLR, whose max_lr takes the place of "
                f"every rate: lr_groups {self.optimizer.lr_groups.model_dump()}, max_lr {self.scheduler.max_lr}"
            )
        return self

    @model_validator(mode="after")
    def _a_cosine_leads_down(self) -> TrainingConfig:
        if not isinstance(self.scheduler, Cosine | WarmRestarts):
            return self
        groups = self.optimizer.lr_groups
        rates = {"lr": self.lr} if groups is None else groups.model_dump()
        least = min(rates, key=rates.__getitem__)
        if self.scheduler.eta_min > rates[least]:
            name = least if groups is None else f"optimizer.lr_groups.{least}"
            raise ValueError(
                f"scheduler.eta_min must not be above {name}, where the cosine starts: "
                f"eta_min {self.scheduler.eta_min:g}, {name} {rates[least]:g}"
            )
        return self


def selection_metric(training: TrainingConfig) -> str:
    """The number of an epoch that the best one has the least of: validation MAE, scored as the loss is.

    A model trained with zeros scored as true (``mae_unmasked``) is selected by that scoring, any other by the field's.
    """
    return "val_mae_unmasked" if training.loss == "mae_unmasked" else "val_mae"
