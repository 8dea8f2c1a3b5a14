"""The training loop: one page, the same bare, in a trial's process, and as a DDP worker.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from altformer.config import Config
from altformer.data.datasets import TrafficData
from altformer.data.windows import Batch, Windows
from altformer.errors import UserError
from altformer.evaluate import score
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from altformer.scores import flatten
from altformer.training.checkpoint import Checkpoints, Curve, Progress
from altformer.training.context import Context
from altformer.training.loss import LOSSES
from altformer.training.memory import keep_freed_memory
from altformer.training.sample import write_forecast_sample


@dataclass(frozen=True)
class Result:
    """How a run ended. ``test`` is None unless the run is done: the test set is read once, at the end.

    ``done``: all epochs or early stop; ``stopped``: by a scheduler; ``diverged``: NaN or infinity in loss or
    validation; ``interrupted``: told to leave, to be resumed later.
    """

    status: Literal["done", "stopped", "diverged", "interrupted"]
    epochs: int
    best_epoch: int | None
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    curve: Curve
    params: int
    train_seconds: float


def train(config: Config, data: TrafficData, context: Context, folder: Path) -> Result:
    """Train one model, validating each epoch; the best epoch's weights are scored on the test set once, at the end.

    Checkpoints go to ``folder/checkpoints``; what is already there of the same run is resumed, on CPU to the bit.
    """
    if context.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    windows = Windows.of(data, config.dataset.input_len, config.dataset.output_len, context.device)
    model = build_model(config.model, ForecastShape.of(config, data)).to(context.device)
    optimizer = _optimizer(config, model)
    checkpoints = Checkpoints(folder / "checkpoints", config)
    progress = checkpoints.load_last(_identity(config, data), model, optimizer, context.device)
    trainee = _wrap(config, model, context)

    def end(
        status: Literal["done", "stopped", "diverged", "interrupted"], test: dict[str, Any] | None = None
    ) -> Result:
        seconds = sum(epoch["epoch_seconds"] for epoch in progress.curve)
        best = progress.best_epoch or None
        return Result(
            status, progress.epoch, best, progress.val, test, progress.curve, count_parameters(model), seconds
        )

    while progress.epoch < config.training.epochs and not _out_of_patience(config, progress):
        started = time.perf_counter()
        epoch = progress.epoch + 1
        metrics = {"epoch": epoch, **_train_epoch(config, trainee, optimizer, windows, context, epoch)}
        val = score(
            _forecaster(model, windows), windows, "val", config.dataset.val_stride, context.rank, context.world_size
        )
        metrics |= {**flatten("val", val), "epoch_seconds": time.perf_counter() - started}
        if "val_mae" not in metrics:
            raise UserError("no target of the validation part is observed: there is nothing to select an epoch by")
        if not all(map(math.isfinite, metrics.values())):
            return end("diverged")
        progress.add(metrics, val)
        if context.rank == 0:
            checkpoints.save(model, optimizer, progress)
        context.report(metrics)
        if reason := context.should_stop():
            return end("interrupted" if reason == "interrupted" else "stopped")

    if context.world_size > 1:
        dist.barrier()  # rank 0 has written the checkpoint that all read now
    checkpoints.load_weights(progress.best_epoch, model, context.device)
    forecaster = _forecaster(model, windows)
    test = score(forecaster, windows, "test", config.dataset.test_stride, context.rank, context.world_size)
    if context.rank == 0:
        write_forecast_sample(folder / "forecast_sample.npz", forecaster, windows, data)
    return end("done", test)


def _train_epoch(
    config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, windows: Windows, context: Context, epoch: int
) -> dict[str, float]:
    """One pass over (a limited number of batches of) the training windows; looks at no tensor before its end."""
    training = config.training
    loss_of = LOSSES[training.loss]
    batches = _epoch_batches(config, windows, epoch)
    first_step = (epoch - 1) * len(batches)
    torch.manual_seed(_mix(config.seed, epoch, context.rank))
    totals = torch.zeros(2, dtype=torch.float64, device=context.device)
    started = time.perf_counter()
    model.train()
    for step, origins in enumerate(batches):
        lr = training.scheduler.rate(first_step + step, training.epochs * len(batches), len(batches), training.lr)
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch, share = _own_share(windows, origins, context)
        with torch.autocast(context.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            scaled = model(batch.reading, batch.observed, batch.time_of_day, batch.day_of_week)
        loss_sum, count = loss_of(windows.scaler.unscale(scaled), batch.target, batch.target_observed)
        loss_sum, count = loss_sum * share, count * share
        totals += torch.stack([loss_sum.detach(), count])
        if context.world_size > 1:
            dist.all_reduce(count)
        # DDP averages gradients over ranks: with this factor the sum is divided by all ranks' observed targets
        loss = loss_sum * context.world_size / count.clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        context.progress(epoch, step + 1, len(batches))
    if context.world_size > 1:
        dist.all_reduce(totals)
    train_loss = float(totals[0] / totals[1].clamp(min=1))
    seconds = time.perf_counter() - started
    samples = sum(len(origins) for origins in batches)
    return {"train_loss": train_loss, "lr": lr, "samples_per_second": samples / seconds}


def _epoch_batches(config: Config, windows: Windows, epoch: int) -> tuple[Tensor, ...]:
    """Forecast origins of each global batch of an epoch: a permutation that depends on (seed, epoch) alone."""
    origins = windows.origins["train"]
    generator = torch.Generator().manual_seed(_mix(config.seed, epoch))
    order = torch.randperm(len(origins), generator=generator).to(origins.device)
    batches = torch.split(origins[order], config.training.batch_size)
    return tuple(batches[: config.training.steps_per_epoch])


def _own_share(windows: Windows, origins: Tensor, context: Context) -> tuple[Batch, int]:
    """This rank's windows of a global batch, and 1; a rank left without any takes one window, which counts 0."""
    own = origins[context.rank :: context.world_size]
    return (windows.batch(own), 1) if len(own) else (windows.batch(origins[:1]), 0)


def _forecaster(model: nn.Module, windows: Windows) -> Any:
    """The model as a function of forecast origins (b,), in float32 and the data's unit (b,h,n)."""

    def forecast(origins: Tensor) -> Tensor:
        model.eval()
        batch = windows.batch(origins)
        return windows.scaler.unscale(model(batch.reading, batch.observed, batch.time_of_day, batch.day_of_week))

    return forecast


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if config.training.optimizer.type == "Adam" else torch.optim.AdamW
    return kind(model.parameters(), lr=config.training.lr, weight_decay=config.training.weight_decay, fused=True)


def _wrap(config: Config, model: nn.Module, context: Context) -> nn.Module:
    """The model as it is trained: in DDP with several ranks, compiled when asked."""
    if context.world_size > 1:
        model = DistributedDataParallel(model, device_ids=[context.device] if context.device.type == "cuda" else None)
    if config.training.compile:
        torch.compiler.reset()  # nothing of the previous cell in a reused process
        model = torch.compile(model)  # type: ignore[assignment]
    return model


def _out_of_patience(config: Config, progress: Progress) -> bool:
    return progress.epoch - progress.best_epoch >= config.training.patience


def _identity(config: Config, data: TrafficData) -> str:
    return hashlib.sha256((config.model_dump_json() + data.identity).encode()).hexdigest()


def _mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
