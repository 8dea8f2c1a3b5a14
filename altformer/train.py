"""The training loop: one page, the same bare, in a trial's process, and as a DDP worker.

b: batch, h: output steps, n: sensors, k: terms of the loss
"""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from altformer.config import Config
from altformer.data.datasets import TrafficData
from altformer.data.windows import Windows
from altformer.error_profile import TEST_ERRORS, ErrorProfile
from altformer.errors import UserError
from altformer.evaluate import model_forecaster, score
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from altformer.scores import flatten
from altformer.training.augmentation import Augmentation
from altformer.training.batches import Share, epoch_steps, mixed_seed, own_shares
from altformer.training.checkpoint import Checkpoints, Curve, Progress, data_facts
from altformer.training.config import selection_metric
from altformer.training.context import Context
from altformer.training.memory import keep_freed_memory
from altformer.training.objective import Objective, forecast_of, make_objective, weighted
from altformer.training.optimizer import Optimizer, make_optimizer
from altformer.training.sample import write_forecast_sample

Status = Literal["done", "stopped", "diverged", "interrupted"]


@dataclass(frozen=True)
class Result:
    """How a run ended. ``test`` is None unless the run is done: the test set is read once, at the end.

    ``done``: all epochs or early stop; ``stopped``: by a scheduler; ``diverged``: NaN or infinity in loss or
    validation; ``interrupted``: told to leave, to be resumed later.
    """

    status: Status
    epochs: int
    best_epoch: int | None
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    curve: Curve
    params: int
    train_seconds: float


@dataclass(frozen=True)
class _Training:
    """What stays the same from step to step; ``model`` is the one that is trained: in DDP, compiled."""

    config: Config
    context: Context
    windows: Windows
    model: nn.Module
    optimizer: Optimizer
    objective: Objective
    augmentation: Augmentation


def train(
    config: Config, data: TrafficData, context: Context, folder: Path, teacher: nn.Module | None = None
) -> Result:
    """Train one model, validating each epoch; the best epoch's weights are scored on the test set once, at the end.

    Checkpoints go to ``folder/checkpoints``; what is already there of the same run is resumed, on CPU to the bit. A
    model that has a ``fit`` is fitted before; one without weights has a single epoch. ``teacher`` is the model whose
    forecasts ``training.distillation`` mixes into the loss; UserError when it asks for one and none is given.
    """
    if context.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    windows = Windows.of(data, config.dataset.input_len, config.dataset.output_len, context.device)
    objective = make_objective(config.training, teacher, windows)
    model = _fitted_model(config, data, windows)
    optimizer = make_optimizer(config.training, model)
    checkpoints = Checkpoints(folder / "checkpoints", config, data_facts(data, windows))
    progress = checkpoints.load_last(_identity(config, data), model, optimizer, context.device)
    augmentation = Augmentation(config.training, windows)
    training = _Training(config, context, windows, _wrap(config, model, context), optimizer, objective, augmentation)
    forecaster = model_forecaster(model, windows)

    def end(status: Status, test: dict[str, Any] | None = None) -> Result:
        return _result(status, progress, test, count_parameters(model))

    if progress.epoch and context.should_stop() == "scheduler":  # it waited for this since its last epoch
        return end("stopped")
    while progress.epoch < optimizer.epochs and not _out_of_patience(config, progress):
        started = time.perf_counter()
        metrics = {"epoch": progress.epoch + 1, **_train_epoch(training, progress.epoch + 1)}
        val = score(forecaster, windows, "val", config.dataset.val_stride, context.rank, context.world_size)
        metrics |= {**flatten("val", val), "epoch_seconds": time.perf_counter() - started}
        if selection_metric(config.training) not in metrics:
            raise UserError("no target of the validation part is observed: there is nothing to select an epoch by")
        if not all(map(math.isfinite, metrics.values())):
            return end("diverged")
        progress.add(metrics, val)
        if context.rank == 0:
            checkpoints.save(model, optimizer, progress)
        context.report(metrics)
        if reason := context.should_stop():
            return end("stopped" if reason == "scheduler" else "interrupted")

    if context.world_size > 1:
        dist.barrier()  # rank 0 has written the checkpoint that all read now
    checkpoints.load_weights(progress.best_epoch, model, context.device)
    errors = ErrorProfile(windows, data.steps_per_day)
    test = score(forecaster, windows, "test", config.dataset.test_stride, context.rank, context.world_size, errors)
    if context.rank == 0:
        errors.write(folder / TEST_ERRORS, data)
        write_forecast_sample(folder / "forecast_sample.npz", forecaster, windows, data)
    return end("done", test)


def _train_epoch(training: _Training, epoch: int) -> dict[str, float]:
    """One pass over (a limited number of steps of) the training windows; looks at no tensor before its end."""
    context, seed, options = training.context, training.config.seed, training.config.training
    steps = epoch_steps(options, training.windows, mixed_seed(seed, epoch))
    torch.manual_seed(mixed_seed(seed, epoch, context.rank))
    terms = len(training.objective.weights)
    totals = torch.zeros(2, terms, dtype=torch.float64, device=context.device)  # sums and counts of the loss's terms
    started = time.perf_counter()
    training.model.train()
    for step, origins in enumerate(steps):
        lr = training.optimizer.set_rate((epoch - 1) * len(steps) + step, len(steps))
        shares = own_shares(origins, options.batch_size, training.augmentation, context.rank, context.world_size)
        totals += _step(training, shares)
        context.progress(epoch, step + 1, len(steps))
    if context.world_size > 1:
        dist.all_reduce(totals)
        for buffer in training.model.buffers():  # such as a batch norm's running mean: ranks validate one model
            dist.broadcast(buffer, 0)
    train_loss = float(weighted(training.objective.weights, *totals))
    seconds = time.perf_counter() - started
    return {"train_loss": train_loss, "lr": lr, "samples_per_second": sum(map(len, steps)) / seconds}


def _step(training: _Training, shares: tuple[Share, ...]) -> Tensor:
    """One optimizer step over all its micro-batches; this rank's sums and counts of the loss's terms (2,k).

    What the loss is divided by is counted first, over all micro-batches and ranks, so that each part weighs as much as
    in one large batch, however many of its targets are observed.
    """
    context, objective, optimizer = training.context, training.objective, training.optimizer
    counts = torch.stack([objective.counts(share.batch) * share.counts for share in shares]).sum(dim=0)
    everywhere = counts.clone()
    if context.world_size > 1:
        dist.all_reduce(everywhere)
    sums = torch.zeros(len(counts), dtype=torch.float64, device=context.device)
    optimizer.zero_grad()
    for share in shares:
        with _gradients_stay_here(training.model, unless=share is shares[-1]):
            bf16 = training.config.training.precision == "bf16"
            forecast = forecast_of(training.model, share.batch, training.windows.scaler, bf16)
            part = objective.sums(forecast, share.batch) * share.counts
            # DDP averages gradients over ranks: with this factor the sum is divided by what all ranks count
            optimizer.backward(weighted(objective.weights, part * context.world_size, everywhere))
        sums += part.detach()
    optimizer.step()
    return torch.stack([sums, counts.double()])


def _gradients_stay_here(model: nn.Module, unless: bool) -> AbstractContextManager[None]:
    """Within it DDP exchanges no gradients: once, with a step's last part, is enough."""
    no_sync = getattr(model, "no_sync", nullcontext)
    return nullcontext() if unless else no_sync()


def _fitted_model(config: Config, data: TrafficData, windows: Windows) -> nn.Module:
    """The model on the windows' device, after its own fit where it has one: what is found in closed form."""
    model = build_model(config.model, ForecastShape.of(config, data)).to(windows.values.device)
    fit = getattr(model, "fit", None)
    if fit is not None:
        fit(windows)
    return model


def _wrap(config: Config, model: nn.Module, context: Context) -> nn.Module:
    """The model as it is trained: in DDP with several ranks, compiled when asked."""
    if context.world_size > 1 and count_parameters(model):  # DDP refuses a model without weights
        model = DistributedDataParallel(model, device_ids=[context.device] if context.device.type == "cuda" else None)
    if config.training.compile:
        torch.compiler.reset()  # nothing of the previous cell in a reused process
        model = torch.compile(model)  # type: ignore[assignment]
    return model


def _result(status: Status, progress: Progress, test: dict[str, Any] | None, params: int) -> Result:
    seconds = sum(epoch["epoch_seconds"] for epoch in progress.curve)
    best = progress.best_epoch or None
    return Result(status, progress.epoch, best, progress.val, test, progress.curve, params, seconds)


def _out_of_patience(config: Config, progress: Progress) -> bool:
    return progress.epoch - progress.best_epoch >= config.training.patience


def _identity(config: Config, data: TrafficData) -> str:
    return hashlib.sha256((config.model_dump_json() + data.identity).encode()).hexdigest()
