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
from altformer.evaluate import Forecaster, model_forecaster, score
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from altformer.scores import flatten
from altformer.training.augmentation import Augmentation
from altformer.training.average import with_average
from altformer.training.batches import Share, epoch_steps, mixed_seed, own_shares
from altformer.training.checkpoint import Checkpoints, Curve, Progress, data_facts
from altformer.training.config import selection_metric
from altformer.training.context import Context
from altformer.training.curriculum import nearest, steps_seen
from altformer.training.memory import forget_gpu_peak, gpu_peak, keep_freed_memory
from altformer.training.objective import Objective, forecast_of, make_objective, weighted
from altformer.training.optimizer import Optimizer, make_optimizer
from altformer.training.part import Part
from altformer.training.sample import write_forecast_sample

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
    config: Config,
    data: TrafficData,
    context: Context,
    folder: Path,
    teacher: nn.Module | None = None,
    test: bool = True,
) -> Result:
    """Train one model, validating each epoch; the best epoch's weights are scored on the test set once, at the end.

    Checkpoints go to ``folder/checkpoints``; what is already there of the same run is resumed, on CPU to the bit, from
    the middle of an epoch too. A model that has a ``fit`` is fitted before; one without weights has a single epoch.
    ``teacher`` is the model whose forecasts ``training.distillation`` mixes into the loss; UserError when it asks for
    one and none is given. Without ``test`` the run is stopped before that set is read, which a later call may do.
    """
    if context.device.type == "cpu":
        keep_freed_memory()
    forget_gpu_peak(context.device)
    torch.manual_seed(config.seed)
    windows = Windows.of(data, config.dataset.input_len, config.dataset.output_len, context.device)
    objective = make_objective(config.training, teacher, windows)
    trained_model = _fitted_model(config, data, windows)
    optimizer, model = with_average(config.training, trained_model, make_optimizer(config.training, trained_model))
    checkpoints = Checkpoints(folder / "checkpoints", config, data_facts(data, windows), writes=context.rank == 0)
    progress = checkpoints.load_last(_identity(config, data), model, optimizer, context.device)
    _check_ranks_agree(progress, context, folder)
    augmentation = Augmentation(config.training, windows)
    wrapped = _wrap(config, trained_model, context)
    training = _Training(config, context, windows, wrapped, optimizer, objective, augmentation)
    forecaster = _seen_alive(model_forecaster(model, windows), context)

    def end(status: Status, test: dict[str, Any] | None = None) -> Result:
        return _result(status, progress, test, count_parameters(model))

    if _epochs_left(training, progress) and progress.epoch and context.should_stop() == "scheduler":
        return end("stopped")  # it waited for this since its last epoch
    while _epochs_left(training, progress):
        began = time.perf_counter() - (progress.part.seconds if progress.part else 0.0)
        trained = _train_epoch(training, progress.epoch + 1, progress.part)
        if isinstance(trained, Part):
            progress.part = trained
            checkpoints.save_part(model, optimizer, progress)
            return end("interrupted")
        if not math.isfinite(trained["train_loss"]):
            return end("diverged")
        val = score(forecaster, windows, "val", config.dataset.val_stride, context.rank, context.world_size)
        metrics = {"epoch": progress.epoch + 1, **trained, **flatten("val", val), **gpu_peak(context.device)}
        metrics["epoch_seconds"] = time.perf_counter() - began
        if selection_metric(config.training) not in metrics:
            raise UserError("no target of the validation part is observed: there is nothing to select an epoch by")
        if not all(map(math.isfinite, metrics.values())):
            return end("diverged")
        progress.add(metrics, val)
        checkpoints.save(model, optimizer, progress)
        context.report(metrics)
        if reason := context.should_stop():
            return end("stopped" if reason == "scheduler" else "interrupted")

    checkpoints.load_best(model)
    scores = _test_scores(training, forecaster, data, folder) if test else None
    return end("stopped" if scores is None else "done", scores)


def _test_scores(training: _Training, forecaster: Forecaster, data: TrafficData, folder: Path) -> dict[str, Any]:
    """Read the test set: the scores, and in the folder the errors in detail and some forecasts."""
    config, context, windows = training.config, training.context, training.windows
    errors = ErrorProfile(windows, data.steps_per_day)
    test = score(forecaster, windows, "test", config.dataset.test_stride, context.rank, context.world_size, errors)
    if context.rank == 0:
        errors.write(folder / TEST_ERRORS, data)
        write_forecast_sample(folder / "forecast_sample.npz", forecaster, windows, data)
    return test


def _train_epoch(training: _Training, epoch: int, part: Part | None = None) -> dict[str, float] | Part:
    """One pass over (a limited number of steps of) the training windows; on a GPU looks at no tensor before its end.

    Goes on after a ``part`` of it, and returns one when the context has it leave between two steps. What diverges ends
    the epoch, where it can be seen without waiting for the device and without asking other ranks.
    """
    context, seed, options = training.context, training.config.seed, training.config.training
    steps = epoch_steps(options, training.windows, mixed_seed(seed, epoch))
    torch.manual_seed(mixed_seed(seed, epoch, context.rank))
    terms, alone = len(training.objective.weights), context.world_size == 1
    totals = torch.zeros(2, terms, dtype=torch.float64, device=context.device)  # sums and counts of the loss's terms
    started = time.perf_counter() - (part.seconds if part else 0.0)
    if part:
        totals += part.totals.to(context.device)
        part.restore_random(context.device)
    training.model.train()
    for step in range(part.step if part else 0, len(steps)):
        done = (epoch - 1) * len(steps) + step
        lr = training.optimizer.set_rate(done, len(steps))
        shares = own_shares(steps[step], options.batch_size, training.augmentation, context.rank, context.world_size)
        seen = steps_seen(done, options.horizon_curriculum * len(steps), training.windows.output_len)
        totals += _step(training, nearest(shares, seen))
        context.progress(epoch, step + 1, len(steps))
        if alone and context.device.type == "cpu" and not totals.isfinite().all():
            break
        if alone and step + 1 < len(steps) and context.leave_now():
            return Part.until(step + 1, totals, time.perf_counter() - started)
    if not alone:
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


def _epochs_left(training: _Training, progress: Progress) -> bool:
    return progress.epoch < training.optimizer.epochs and not _out_of_patience(training.config, progress)


def _result(status: Status, progress: Progress, test: dict[str, Any] | None, params: int) -> Result:
    seconds = sum(epoch["epoch_seconds"] for epoch in progress.curve)
    best = progress.best_epoch or None
    return Result(status, progress.epoch, best, progress.val, test, progress.curve, params, seconds)


def _out_of_patience(config: Config, progress: Progress) -> bool:
    return progress.epoch - progress.best_epoch >= config.training.patience


def _identity(config: Config, data: TrafficData) -> str:
    return hashlib.sha256((config.model_dump_json() + data.identity).encode()).hexdigest()
