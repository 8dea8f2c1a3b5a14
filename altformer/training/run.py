"""A run around its steps: what it begins or goes on with, how an epoch is judged and kept, how it ends."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.error_profile import TEST_ERRORS, ErrorProfile
from altformer.errors import UserError
from altformer.evaluate import Forecaster, model_forecaster, score
from altformer.model.build import count_parameters, fitted_model
from altformer.scores import flatten
from altformer.training.average import with_average
from altformer.training.checkpoint import Checkpoints, Curve, DataFacts, Progress
from altformer.training.config import selection_metric
from altformer.training.context import Context
from altformer.training.forecast_sample import write_forecast_sample
from altformer.training.memory import gpu_peak
from altformer.training.optimizer import make_optimizer
from altformer.training.part import Part

Status = Literal["done", "stopped", "diverged", "interrupted"]


@dataclass(frozen=True)
class Result:
    """How a run ended. ``test`` is None unless the run is done: the test set is read once, at the end.

    ``done``: all epochs or early stop; ``stopped``: by a scheduler, or where the test would follow; ``diverged``: NaN
    or infinity in loss or validation; ``interrupted``: told to leave, to be resumed later.
    """

    status: Status
    epochs: int
    best_epoch: int | None
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    curve: Curve
    params: int
    train_seconds: float


class Run:
    """Model, optimizer, checkpoints and progress of one training, as new or as its folder's last checkpoint has them.

    ``trained`` is the model that the steps move, by ``descent`` and, where an average of the weights is asked for, by
    the ``optimizer`` around it; ``model`` is what is validated, kept and tested.
    """

    def __init__(self, config: Config, data: TrafficData, windows: Windows, context: Context, folder: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.context = config, context
        self._data, self._windows, self._folder = data, windows, folder
        self.trained = fitted_model(config.model, data, windows)
        self.descent = make_optimizer(config.training, self.trained)
        self.optimizer, self.model = with_average(config.training, self.trained, self.descent)
        facts = DataFacts.of(data, windows).model_dump(mode="json")
        self._checkpoints = Checkpoints(folder / "checkpoints", config, facts, writes=context.rank == 0)
        self.progress = self._checkpoints.load_last(_identity(config, data), self.model, self.optimizer, context.device)
        _check_ranks_agree(self.progress, context, folder)
        self._forecaster = _seen_alive(model_forecaster(self.model, windows), context)

    @property
    def epochs_left(self) -> bool:
        """Whether it goes on: neither out of epochs nor out of patience."""
        progress = self.progress
        patience = self.config.training.patience
        return progress.epoch < self.optimizer.epochs and progress.epoch - progress.best_epoch < patience

    def judge(self, trained: dict[str, float], began: float) -> Status | None:
        """Validate after the steps of an epoch, keep and report it; how the run ends here, or None to go on.

        ``trained`` is what the steps have found, ``began`` when they did, by the performance counter.
        """
        config, context, progress = self.config, self.context, self.progress
        if not math.isfinite(trained["train_loss"]):
            return "diverged"
        stride = config.dataset.val_stride
        val = score(self._forecaster, self._windows, "val", stride, context.rank, context.world_size)
        metrics = {"epoch": progress.epoch + 1, **trained, **flatten("val", val), **gpu_peak(context.device)}
        metrics["epoch_seconds"] = time.perf_counter() - began
        if selection_metric(config.training) not in metrics:
            raise UserError("no target of the validation part is observed: there is nothing to select an epoch by")
        if not all(map(math.isfinite, metrics.values())):
            return "diverged"
        progress.add(metrics, val)
        self._checkpoints.save(self.model, self.optimizer, progress)
        context.report(metrics)
        if reason := context.should_stop():
            return "stopped" if reason == "scheduler" else "interrupted"
        return None

    def leave(self, part: Part) -> Result:
        """Keep what is done of an epoch, to go on from there."""
        self.progress.part = part
        self._checkpoints.save_part(self.model, self.optimizer, self.progress)
        return self.end("interrupted")

    def finish(self) -> Result:
        """Score the best epoch's weights on the test set, once."""
        data, windows, context = self._data, self._windows, self.context
        self._checkpoints.load_best(self.model)
        errors = ErrorProfile(windows, data.steps_per_day)
        stride = self.config.dataset.test_stride
        test = score(self._forecaster, windows, "test", stride, context.rank, context.world_size, errors)
        if context.rank == 0:
            errors.write(self._folder / TEST_ERRORS, data)
            write_forecast_sample(self._folder / "forecast_sample.npz", self._forecaster, windows, data)
        return self.end("done", test)

    def end(self, status: Status, test: dict[str, Any] | None = None) -> Result:
        """The result as it stands."""
        progress = self.progress
        seconds = sum(epoch["epoch_seconds"] for epoch in progress.curve)
        best, params = progress.best_epoch or None, count_parameters(self.model)
        return Result(status, progress.epoch, best, progress.val, test, progress.curve, params, seconds)


def _check_ranks_agree(progress: Progress, context: Context, folder: Path) -> None:
    """RuntimeError when ranks resume after different epochs, which would mix two models without a word."""
    if context.world_size == 1:
        return
    most = torch.tensor([progress.epoch, -progress.epoch], device=context.device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    if most.sum() != 0:
        raise RuntimeError(
            f"rank {context.rank} found {progress.epoch} epochs in {folder / 'checkpoints'}, other ranks others: "
            "is it the same folder on every node?"
        )


def _seen_alive(forecaster: Forecaster, context: Context) -> Forecaster:
    """The forecaster, with a sign of life at each batch: scoring may take longer than an epoch's steps."""

    def forecast(origins: Tensor) -> Tensor:
        context.alive()
        return forecaster(origins)

    return forecast


def _identity(config: Config, data: TrafficData) -> str:
    return hashlib.sha256((config.model_dump_json() + data.identity).encode()).hexdigest()
