"""How fast a cell is trained: measured in its record or by a probe, and what a cell takes at that pace."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from altformer.config import Config
from altformer.data.traffic import TrafficData
from experiments.cell import at_once

SCORED_SHARE = 1 / 3  # of a window's training is its forward pass, as long as no scoring has been timed

# Fields on which the seconds per window do not depend.
_FREE: Any = {
    "seed": True,
    "dataset": {"path", "graph", "val_stride", "test_stride"},
    "training": {"epochs", "steps_per_epoch", "patience", "lr", "weight_decay", "clip_norm", "scheduler"},
}


@dataclass(frozen=True)
class Load:
    """What a cell computes: epochs, and windows trained on and validated in each of them and tested at the end."""

    epochs: int
    trained: int
    validated: int
    tested: int


@dataclass(frozen=True)
class Pace:
    """Seconds: for what is done once in a cell, per window that is trained on, per window scored, for each epoch."""

    once: float
    trained: float
    scored: float
    epoch: float = 0.0

    def seconds(self, load: Load, epochs_done: int = 0) -> float:
        """What a cell takes in its slot, the epochs that a checkpoint holds left out."""
        each = self.trained * load.trained + self.scored * load.validated + self.epoch
        return self.once + max(load.epochs - epochs_done, 0) * each + self.scored * load.tested

    def times(self, factor: float) -> Pace:
        """The pace of a model that needs ``factor`` times as long."""
        return Pace(self.once, self.trained * factor, self.scored * factor, self.epoch)


def cost_key(config: Config) -> str:
    """Equal for configurations whose seconds per window are equal, such as seeds or learning rates."""
    return config.model_dump_json(exclude=_FREE)


def load_of(config: Config, data: TrafficData, params: int) -> Load:
    """The load of a configuration on a data set; a model without parameters has one epoch.

    UserError when the data set is too short for the windows.
    """
    from altformer.data.windows import split_origins  # torch

    origins = split_origins(len(data.values), data.split, config.dataset.input_len, config.dataset.output_len)
    return Load(
        epochs=config.training.epochs if params else 1,
        trained=_trained(config, len(origins["train"])),
        validated=math.ceil(len(origins["val"]) / config.dataset.val_stride),
        tested=math.ceil(len(origins["test"]) / config.dataset.test_stride),
    )


def recorded_pace(record: Mapping[str, Any], config: Config, data: TrafficData) -> Pace | None:
    """The pace at which a recorded cell of this configuration was trained; None where its record does not say.

    That of seeds trained at once does not: its times are shares of theirs.

    The median epoch counts, so that a slow first one (memory, caches) is part of what is done once. What is left of
    the time between start and end, which records keep to the second, is that too.
    """
    curve, val = record.get("curve") or [], record.get("val") or {}
    if any(map(at_once, curve)):
        return None
    try:
        load = load_of(config, data, int(record["params"]))
        epoch = statistics.median(float(one["epoch_seconds"]) for one in curve)
        trained = min(load.trained / statistics.median(float(one["samples_per_second"]) for one in curve), epoch)
        validated = int(val["windows"])
        took = _between(record["provenance"]["started"], record["provenance"]["ended"])
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None
    scored = (epoch - trained) / max(validated, 1)
    tested = int(record["test"]["windows"]) if record.get("test") else 0
    return Pace(max(took - len(curve) * epoch - tested * scored, 0.0), trained / max(load.trained, 1), scored)


def median_pace(paces: list[Pace]) -> Pace:
    """Part by part the median of several."""
    return Pace(*(statistics.median(getattr(one, name) for one in paces) for name in Pace.__dataclass_fields__))


def _trained(config: Config, windows: int) -> int:
    """Windows that an epoch trains on, of so many."""
    training = config.training
    if training.steps_per_epoch is None:
        return windows
    return min(windows, training.steps_per_epoch * training.batch_size * training.gradient_accumulation_steps)


def _between(started: str, ended: str) -> float:
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
