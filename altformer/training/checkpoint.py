"""Checkpoints of a run: one folder an epoch, checked by sums, moved into place whole.

A folder holds ``model.safetensors``, ``state.pt`` (optimizer), ``config.json``, ``data.json`` (what a forecast must
know of the data, see `data_facts`), ``progress.json`` (epoch, best epoch, curve, identity of the run) and
``sums.json``. Random numbers, data order and learning rate are functions of (seed, epoch, rank) and the step, so the
epoch is all of their state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.files import move_folder, write_json
from altformer.training.config import selection_metric
from altformer.training.optimizer import State

log = logging.getLogger(__name__)
Curve = list[dict[str, float]]


@dataclass
class Progress:
    """How far a run has come: curve of its epochs and the best of them, by the least of one metric of the curve."""

    identity: str = ""  # of configuration and data; a checkpoint of another run is never resumed
    epoch: int = 0
    best_epoch: int = 0
    val: dict[str, Any] | None = None  # validation scores of the best epoch
    curve: Curve = field(default_factory=list)
    metric: str = "val_mae"

    def add(self, metrics: dict[str, float], val: dict[str, Any]) -> None:
        """Append one epoch's metrics and keep its validation scores if it is the best so far."""
        self.epoch += 1
        self.curve.append(metrics)
        if self.best_epoch == 0 or metrics[self.metric] < self.curve[self.best_epoch - 1][self.metric]:
            self.best_epoch, self.val = self.epoch, val


class Checkpoints:
    """The checkpoints below one folder; keeps the best, the last, and the one before with the best until then."""

    def __init__(self, folder: Path, config: Config, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self._config = config
        self._facts = dict(facts)

    def save(self, model: nn.Module, optimizer: State, progress: Progress) -> None:
        """Write the state after the progress's epoch, then delete what need not be kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".epoch-{progress.epoch:04d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        # Copies, since a model may use one tensor under two names, which the format refuses to write.
        weights = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors")
        torch.save(optimizer.state_dict(), temporary / "state.pt")
        write_json(temporary / "config.json", self._config.model_dump(mode="json"))
        write_json(temporary / "data.json", self._facts)
        write_json(temporary / "progress.json", progress.__dict__)
        write_json(temporary / "sums.json", {path.name: _sum(path) for path in sorted(temporary.iterdir())})
        move_folder(temporary, self._path(progress.epoch))
        keep = {progress.best_epoch, progress.epoch, progress.epoch - 1, _best_before_last(progress)}
        for path in self.folder.glob("epoch-*"):
            if path not in {self._path(epoch) for epoch in keep}:
                shutil.rmtree(path)

    def load_last(self, identity: str, model: nn.Module, optimizer: State, device: torch.device) -> Progress:
        """Restore the newest whole checkpoint of this very run into model and optimizer; an empty one if none is."""
        for path in sorted(self.folder.glob("epoch-*"), reverse=True):
            progress = _progress(path)
            if progress is None:
                log.warning("checkpoint %s is damaged: using the one before", path)
            elif progress.identity != identity:
                log.warning("checkpoint %s belongs to another configuration: not used", path)
            elif progress.best_epoch not in (progress.epoch, 0) and _progress(self._path(progress.best_epoch)) is None:
                log.warning("checkpoint %s needs the best epoch %d, which is damaged", path, progress.best_epoch)
            else:
                model.load_state_dict(load_file(path / "model.safetensors", device=str(device)))
                optimizer.load_state_dict(torch.load(path / "state.pt", weights_only=True, map_location=device))
                return progress
        return Progress(identity, metric=selection_metric(self._config.training))

    def load_weights(self, epoch: int, model: nn.Module, device: torch.device) -> None:
        """Restore the weights of a kept epoch."""
        model.load_state_dict(load_file(self._path(epoch) / "model.safetensors", device=str(device)))

    def _path(self, epoch: int) -> Path:
        return _epoch_folder(self.folder, epoch)


def last_curve(folder: Path) -> Curve:
    """The epochs that a cell's folder resumes after, as its newest whole checkpoint has them; empty without one."""
    for path in sorted((folder / "checkpoints").glob("epoch-*"), reverse=True):
        if (progress := _progress(path)) is not None:
            return progress.curve
    return []


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of the best epoch of a cell's folder, as the newest whole checkpoint below it names it.

    Raises UserError when there is no whole one.
    """
    for path in sorted((folder / "checkpoints").glob("epoch-*"), reverse=True):
        progress = _progress(path)
        best = None if progress is None else _epoch_folder(path.parent, progress.best_epoch)
        if best is not None and _progress(best) is not None:
            return best
    raise UserError(f"{folder / 'checkpoints'}: no whole checkpoint of a best epoch; the run has finished no epoch")


def data_facts(data: TrafficData, windows: Windows) -> dict[str, Any]:
    """What a model's forecasts depend on of the data it was trained on: sensors in order, scaler, steps, mark."""
    return {
        "name": data.name,
        "sensor_ids": list(data.sensor_ids),
        "scaler": windows.scaler._asdict(),
        "step_minutes": data.step_minutes,
        "steps_per_day": data.steps_per_day,
        "null_value": data.null_value,
        "input_len": windows.input_len,
        "output_len": windows.output_len,
        "unit": data.unit,
        "has_graph": data.adjacency is not None,
    }


def _epoch_folder(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}"


def _best_before_last(progress: Progress) -> int:
    """The best epoch when the last one was not there yet, which the checkpoint before the last needs."""
    before = progress.curve[:-1]
    return 1 + min(range(len(before)), key=lambda index: before[index][progress.metric]) if before else 0


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _progress(path: Path) -> Progress | None:
    """The progress noted in a checkpoint, or None when any of its files is missing or altered."""
    try:
        sums: dict[str, str] = json.loads((path / "sums.json").read_text())
        if not {"model.safetensors", "state.pt", "progress.json"} <= sums.keys():
            return None
        if any(_sum(path / name) != value for name, value in sums.items()):
            return None
        values: dict[str, Any] = json.loads((path / "progress.json").read_text())
        return Progress(**values)
    except (OSError, ValueError, TypeError):
        return None
