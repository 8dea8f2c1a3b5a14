"""A trained model, restored from a checkpoint folder alone.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.evaluate import Forecaster, model_forecaster
from altformer.model.build import build_model
from altformer.model.shape import ForecastShape
from altformer.training.checkpoint import DataFacts, best_checkpoint

_FILES = ("config.json", "data.json", "model.safetensors")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, in evaluation mode, and what it needs to be used: configuration, scaler, sensors."""

    model: nn.Module
    config: Config
    facts: DataFacts
    folder: Path

    def forecaster(self, data: TrafficData, windows: Windows) -> Forecaster:
        """The model as a function of forecast origins (b,) of windows of ``data``: (b,h,n) in the data's unit.

        Readings are scaled as in training, whatever the windows' own scaler says. Raises UserError where the data are
        not of the kind the model was trained on (sensors and their order, time step, lengths, mark of missing ones).
        """
        self.check_fits(data, windows)
        return model_forecaster(self.model, replace(windows, scaler=self.facts.scaler))

    def check_fits(self, data: TrafficData, windows: Windows) -> None:
        """UserError naming the first fact in which data and windows differ from those of the training."""
        facts = self.facts
        if data.sensor_ids != facts.sensor_ids:
            raise UserError(f"{self.folder}: {_sensors_differ(facts.sensor_ids, data.sensor_ids)}")
        found = {
            "step_minutes": (facts.step_minutes, data.step_minutes),
            "input_len": (facts.input_len, windows.input_len),
            "output_len": (facts.output_len, windows.output_len),
            "null_value": (facts.null_value, windows.null_value),
        }
        for name, (trained, given) in found.items():
            if trained != given:
                raise UserError(f"{self.folder}: trained with {name} {trained:g}, these data have {given:g}")


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> LoadedModel:
    """The model of a cell's folder (its best epoch) or of one checkpoint folder, on a device.

    Reads ``config.json``, ``data.json`` and ``model.safetensors`` and checks them against ``sums.json``. Raises
    UserError where a file is missing or damaged, or was written by code that this version no longer agrees with.
    """
    path = _checkpoint_of(Path(folder))
    _verify(path)
    config, facts = _read(path)
    n = len(facts.sensor_ids)
    shape = ForecastShape(
        num_sensors=n,
        input_len=facts.input_len,
        output_len=facts.output_len,
        steps_per_day=facts.steps_per_day,
        # what a model made of the road graph is in its buffers, which the weights restore: only the form matters here
        adjacency=np.zeros((n, n), dtype=np.float32) if facts.has_graph else None,
    )
    model = build_model(config.model, shape).to(device)
    try:
        model.load_state_dict(load_file(path / "model.safetensors", device=str(torch.device(device))))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{path}: its weights do not fit the model that this version builds; train it again, or use the version "
            f"that trained it ({str(error).strip().splitlines()[-1].strip()})"
        ) from error
    return LoadedModel(model.eval(), config, facts, path)


def _checkpoint_of(folder: Path) -> Path:
    """The checkpoint folder itself, or the best one of a cell's folder; UserError where there is none."""
    if (folder / "model.safetensors").is_file():
        return folder
    if (folder / "checkpoints").is_dir():
        return best_checkpoint(folder)
    raise UserError(f"{folder}: neither a cell's folder (no checkpoints/) nor a checkpoint (no model.safetensors)")


def _verify(path: Path) -> None:
    """UserError naming the file that is missing or is not what was written."""
    try:
        sums = json.loads((path / "sums.json").read_text())
        known = {name: sums[name] for name in sums}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path / 'sums.json'}: missing or damaged: the checkpoint cannot be trusted") from error
    for name in _FILES:
        if name not in known:
            raise UserError(f"{path}: holds no {name}; an earlier version wrote it, train the model again")
        try:
            with (path / name).open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == known[name]
        except OSError as error:
            raise UserError(f"{path / name}: cannot be read: {error.strerror}") from error
        if not whole:
            raise UserError(f"{path / name}: damaged, its content is not what the training wrote")


def _read(path: Path) -> tuple[Config, DataFacts]:
    try:
        config = Config.model_validate_json((path / "config.json").read_text())
        facts = DataFacts.model_validate_json((path / "data.json").read_text())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path}: written by another version of altformer: {field}: {first['msg']}, got {first['input']!r}"
        ) from error
    if not (math.isfinite(facts.scaler.mean) and facts.scaler.std > 0):
        raise UserError(f"{path / 'data.json'}: the scaler's std must be above 0, got {facts.scaler}")
    return config, facts


def _sensors_differ(trained: tuple[str, ...], given: tuple[str, ...]) -> str:
    if len(trained) != len(given):
        return f"trained on {len(trained)} sensors, these data have {len(given)}"
    place = next(k for k, (one, other) in enumerate(zip(trained, given, strict=True)) if one != other)
    return f"trained on other sensors: column {place} was '{trained[place]}', these data have '{given[place]}'"
