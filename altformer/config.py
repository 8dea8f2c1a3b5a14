"""The whole configuration of one run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from altformer.baselines.config import BaselineConfig
from altformer.data.config import DatasetConfig
from altformer.model.config import ModelConfig, OwnModelConfig
from altformer.schema import Strict
from altformer.training.config import TrainingConfig

AnyModel = Annotated[ModelConfig | BaselineConfig | OwnModelConfig, Field(discriminator="type")]


class Config(Strict):
    """Data, model and training of one run; with the data's content and the machine's kind it decides every number.

    A model without a `type` is the alternating Transformer; a plain string stands for `{type: string}`.
    """

    dataset: DatasetConfig
    model: AnyModel = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    seed: int = Field(0, ge=0)

    @field_validator("model", mode="before")
    @classmethod
    def _ours_unless_said(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"type": value}
        return {"type": "altformer"} | value if isinstance(value, dict) else value
