"""The whole configuration of one run."""

from __future__ import annotations

from pydantic import Field

from altformer.data.config import DatasetConfig
from altformer.model.config import ModelConfig
from altformer.schema import Strict
from altformer.training.config import TrainingConfig


class Config(Strict):
    """Data, model and training of one run; with the data's content and the machine's kind it decides every number."""

    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    seed: int = Field(0, ge=0)
