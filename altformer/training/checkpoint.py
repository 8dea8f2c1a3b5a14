"""Checkpoints of a run: one folder an epoch, checked by sums, moved into place whole.

A folder ``epoch-0007`` holds ``model.safetensors``, ``state.pt`` (optimizer), ``config.json``, ``data.json`` (what a
forecast must know of the data, see `DataFacts`), ``progress.json`` (epoch, best epoch, curve, identity of the run)
and ``sums.json``. Random numbers, data order and learning rate are functions of (seed, epoch, rank) and the step, so
the epoch is all of their state. ``part-0008`` is the state in the middle of epoch 8: the same and ``part.pt``.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, field_serializer
from torch import Tensor, nn

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Scaler, Windows
from altformer.errors import UserError
from altformer.files import json_bytes, write_folder
from altformer.training.config import selection_metric
from altformer.training.optimizer import State
from altformer.training.part import Part

log = logging.getLogger(__name__)
Curve = list[dict[str, float]]
Weights = dict[str, Tensor]

_EVERY = frozenset({"model.safetensors", "state.pt", "config.json", "data.json", "progress.json"})
_PART = "part.pt"


class DataFacts(BaseModel):
    """What a model's forecasts depend on of the data it was trained on (``data.json`` of a checkpoint).

    Sensors in their order, the scaler and the mark of a missing reading in the data's ``unit``, lengths in steps.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sensor_ids: tuple[str, ...]
    scaler: Scaler
    step_minutes: int
    steps_per_day: int
    null_value: float
    input_len: int
    output_len: int
    unit: str
    has_graph: bool

    @classmethod
    def of(cls, data: TrafficData, windows: Windows) -> DataFacts:
        """Those of windows of a data set."""
        return cls(
            name=data.name,
            sensor_ids=data.sensor_ids,
            scaler=windows.scaler,
            step_minutes=data.step_minutes,
            steps_per_day=data.steps_per_day,
            null_value=data.null_value,
            input_len=windows.input_len,
            output_len=windows.output_len,
            unit=data.unit,
            has_graph=data.adjacency is not None,
        )

    @field_serializer("scaler")
    def _by_name(self, scaler: Scaler) -> dict[str, float]:
        return scaler._asdict()


@dataclass
class Progress:
    """How far a run has come: curve of its epochs and the best of them, by the least of one metric of the curve.

    ``part`` is what is done of the epoch after, if it was left in its middle.
    """

    identity: str = ""  # of configuration and data; a checkpoint of another run is never resumed
    epoch: int = 0
    best_epoch: int = 0
    val: dict[str, Any] | None = None  # validation scores of the best epoch
    curve: Curve = field(default_factory=list)
    metric: str = "val_mae"
    part: Part | None = None

    @property
    def steps_done(self) -> int:
        """Optimizer steps done of the epoch after."""
        return self.part.step if self.part else 0

    @property
    def seconds_done(self) -> float:
        """Time that they took."""
        return self.part.seconds if self.part else 0.0

    def add(self, metrics: dict[str, float], val: dict[str, Any]) -> None:
        """Append one epoch's metrics and keep its validation scores if it is the best so far."""
        self.epoch, self.part = self.epoch + 1, None
        self.curve.append(metrics)
        if self.best_epoch == 0 or metrics[self.metric] < self.curve[self.best_epoch - 1][self.metric]:
            self.best_epoch, self.val = self.epoch, val


@dataclass(frozen=True)
class _Saved:
    """A checkpoint that was found whole: what it says and the very bytes that were checked."""

    progress: Progress
    files: Mapping[str, bytes]

    def weights(self) -> Weights:
        weights: Weights = safetensors.torch.load(self.files["model.safetensors"])
        return weights


class Checkpoints:
    """The checkpoints below one folder; keeps the best, the last, and the one before with the best until then.

    All ranks load, and remember the best epoch's weights; one of them ``writes``.
    """

    def __init__(self, folder: Path, config: Config, facts: Mapping[str, Any], writes: bool = True) -> None:
        self.folder = folder
        self._config = config
        self._facts = dict(facts)
        self._writes = writes
        self._best: Weights = {}

    def save(self, model: nn.Module, optimizer: State, progress: Progress) -> None:
        """Write the state after the progress's epoch, then delete what need not be kept; DiskFullError is possible."""
        weights = _weights(model)
        if progress.epoch == progress.best_epoch:
            self._best = weights
        if not self._writes:
            return
        self._write(_epoch_folder(self.folder, progress.epoch), weights, optimizer, progress)
        log.info("epoch %d", progress.epoch)
        kept = {progress.best_epoch, progress.epoch, progress.epoch - 1, _best_before_last(progress)}
        for path in [*_newest_first(self.folder), *self.folder.glob(".*")]:
            if path not in {_epoch_folder(self.folder, epoch) for epoch in kept}:
                shutil.rmtree(path, ignore_errors=True)

    def save_part(self, model: nn.Module, optimizer: State, progress: Progress) -> None:
        """Write the state in the middle of the epoch after the progress's; it lasts until that epoch is saved."""
        self._write(self.folder / f"part-{progress.epoch + 1:04d}", _weights(model), optimizer, progress)
        log.info("leaves epoch %d after its step %d", progress.epoch + 1, progress.steps_done)

    def _write(self, folder: Path, weights: Weights, optimizer: State, progress: Progress) -> None:
        state = io.BytesIO()
        torch.save(optimizer.state_dict(), state)
        files = {
            "model.safetensors": safetensors.torch.save(weights),
            "state.pt": state.getvalue(),
            "config.json": json_bytes(self._config.model_dump(mode="json")),
            "data.json": json_bytes(self._facts),
            "progress.json": json_bytes({name: value for name, value in vars(progress).items() if name != "part"}),
        }
        if progress.part is not None:
            files[_PART] = progress.part.to_bytes()
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_folder(folder, {**files, "sums.json": json_bytes(sums)})

    def load_last(self, identity: str, model: nn.Module, optimizer: State, device: torch.device) -> Progress:
        """Restore the newest whole checkpoint of this very run into model and optimizer; an empty one if none is."""
        for path in _newest_first(self.folder):
            saved = _read(path)
            if saved is None:
                log.warning("checkpoint %s is damaged: using the one before", path)
            elif saved.progress.identity != identity:
                log.warning("checkpoint %s belongs to another configuration: not used", path)
            elif (best := self._best_of(path, saved)) is None:
                log.warning(
                    "checkpoint %s needs the best epoch %d, which is damaged: using the one before",
                    path,
                    saved.progress.best_epoch,
                )
            else:
                model.load_state_dict(saved.weights())
                state = io.BytesIO(saved.files["state.pt"])
                optimizer.load_state_dict(torch.load(state, weights_only=True, map_location=device))
                self._best = best
                steps = saved.progress.steps_done
                log.info("resumes after epoch %d%s", saved.progress.epoch, f" and {steps} steps" if steps else "")
                return saved.progress
        return Progress(identity, metric=selection_metric(self._config.training))

    def load_best(self, model: nn.Module) -> None:
        """Give the model the weights of the best epoch, remembered since it was saved or found whole."""
        model.load_state_dict(self._best)

    def _best_of(self, path: Path, saved: _Saved) -> Weights | None:
        """The weights of the epoch that is a checkpoint's best, or None where that is damaged."""
        progress = saved.progress
        if progress.best_epoch == 0:
            return {}
        best = _epoch_folder(self.folder, progress.best_epoch)
        found = saved if path == best else _read(best)
        return found.weights() if found is not None and found.progress.identity == progress.identity else None


def last_curve(folder: Path) -> Curve:
    """The epochs that a cell's folder resumes after, as its newest whole checkpoint has them; empty without one."""
    for path in _newest_first(folder / "checkpoints"):
        if (saved := _read(path)) is not None:
            return saved.progress.curve
    return []


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of the best epoch of a cell's folder, as the newest whole checkpoint below it names it.

    Raises UserError when there is no whole one.
    """
    for path in _newest_first(folder / "checkpoints"):
        saved = _read(path)
        best = None if saved is None else _epoch_folder(path.parent, saved.progress.best_epoch)
        if best is not None and _read(best) is not None:
            return best
    raise UserError(f"{folder / 'checkpoints'}: no whole checkpoint of a best epoch; the run has finished no epoch")


def _epoch_folder(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}"


def _newest_first(folder: Path) -> list[Path]:
    """The checkpoints below a folder; the part of an epoch is newer than the epoch before, older than the whole one."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if name := re.fullmatch(r"(part|epoch)-(\d+)", path.name):
            found.append((int(name[2]), name[1] == "epoch", path))
    return [path for *_, path in sorted(found, reverse=True)]


def _best_before_last(progress: Progress) -> int:
    """The best epoch when the last one was not there yet, which the checkpoint before the last needs."""
    before = progress.curve[:-1]
    return 1 + min(range(len(before)), key=lambda index: before[index][progress.metric]) if before else 0


def _weights(model: nn.Module) -> Weights:
    """Copies, since a model may use one tensor under two names, which the format refuses to write."""
    return {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}


def _read(path: Path) -> _Saved | None:
    """A checkpoint, or None when any of its files is missing or altered."""
    try:
        sums: dict[str, str] = json.loads((path / "sums.json").read_text())
        if not (_EVERY | ({_PART} if path.name.startswith("part") else set())) <= sums.keys():
            return None
        files = {name: (path / name).read_bytes() for name in sums}
        if any(hashlib.sha256(files[name]).hexdigest() != value for name, value in sums.items()):
            return None
        progress = Progress(**json.loads(files["progress.json"]))
        progress.part = Part.from_bytes(files[_PART]) if _PART in files else None
        return _Saved(progress, files)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
