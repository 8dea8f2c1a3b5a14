"""Everything that decides how a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from altformer.schema import Strict
from altformer.training.schedule import Constant, ScheduleConfig


class OptimizerConfig(Strict):
    """AdamW (decoupled weight decay) or Adam (L2 penalty)."""

    type: Literal["AdamW", "Adam"] = "AdamW"


class TrainingConfig(Strict):
    """Training options; the defaults are the guide's baseline.

    ``batch_size`` is global over all workers. ``patience`` ends a run after that many epochs without a better
    validation MAE. ``steps_per_epoch`` limits an epoch to that many batches of its random order (None: all of them).
    """

    batch_size: int = Field(32, ge=1)
    epochs: int = Field(150, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    patience: int = Field(30, ge=1)
    lr: float = Field(5e-4, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(5.0, gt=0, allow_inf_nan=False)
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: ScheduleConfig = Field(default=Constant(), discriminator="type")
    loss: Literal["masked_mae", "huber", "mae_unmasked"] = "masked_mae"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    @field_validator("scheduler", "optimizer", mode="before")
    @classmethod
    def _name_is_short_for_type(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value
