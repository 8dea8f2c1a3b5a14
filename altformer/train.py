"""The training loop: one page, the same bare, in a trial's process, and as a DDP worker.

b: batch, h: output steps, n: sensors, k: terms of the loss
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.model.build import count_parameters
from altformer.training.augmentation import Augmentation
from altformer.training.batches import Share, epoch_steps, mixed_seed, nearest, own_shares, steps_seen
from altformer.training.checkpoint import Progress
from altformer.training.context import Context
from altformer.training.memory import forget_gpu_peak, keep_freed_memory
from altformer.training.objective import Objective, forecast_of, make_objective, weighted
from altformer.training.optimizer import Optimizer
from altformer.training.part import Part
from altformer.training.run import Result, Run


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
    windows = Windows.of(data, config.dataset.input_len, config.dataset.output_len, context.device)
    objective = make_objective(config.training, teacher, windows)
    run = Run(config, data, windows, context, folder)
    augmentation = Augmentation(config.training, windows)
    wrapped = _wrap(config, run.trained, context)
    training = _Training(config, context, windows, wrapped, run.optimizer, objective, augmentation)
    if run.epochs_left and run.progress.epoch and context.should_stop() == "scheduler":
        return run.end("stopped")  # it waited for this since its last epoch
    while run.epochs_left:
        began = time.perf_counter() - run.progress.seconds_done
        trained = _train_epoch(training, run.progress, began)
        if isinstance(trained, Part):
            return run.leave(trained)
        if status := run.judge(trained, began):
            return run.end(status)
    return run.finish() if test else run.end("stopped")


def _train_epoch(training: _Training, progress: Progress, began: float) -> dict[str, float] | Part:
    """One pass over (a limited number of steps of) the training windows; on a GPU looks at no tensor before its end.

    Goes on after what is done of it, and returns a part when the context has it leave between two steps. What diverges
    ends the epoch, where it can be seen without waiting for the device and without asking other ranks. ``began`` is
    when it did, by the performance counter.
    """
    epoch, part = progress.epoch + 1, progress.part
    context, seed, options = training.context, training.config.seed, training.config.training
    steps = epoch_steps(options, training.windows, mixed_seed(seed, epoch))
    torch.manual_seed(mixed_seed(seed, epoch, context.rank))
    terms, alone = len(training.objective.weights), context.world_size == 1
    totals = torch.zeros(2, terms, dtype=torch.float64, device=context.device)  # sums and counts of the loss's terms
    if part:
        totals += part.totals.to(context.device)
        part.restore_random(context.device)
    training.model.train()
    for step in range(progress.steps_done, len(steps)):
        done = (epoch - 1) * len(steps) + step
        lr = training.optimizer.set_rate(done, len(steps))
        shares = own_shares(steps[step], options.batch_size, training.augmentation, context.rank, context.world_size)
        seen = steps_seen(done, options.horizon_curriculum * len(steps), training.windows.output_len)
        totals += _step(training, nearest(shares, seen))
        context.progress(epoch, step + 1, len(steps))
        if alone and context.device.type == "cpu" and not totals.isfinite().all():
            break
        if alone and step + 1 < len(steps) and context.leave_now():
            return Part.until(step + 1, totals, time.perf_counter() - began)
    if not alone:
        dist.all_reduce(totals)
        for buffer in training.model.buffers():  # such as a batch norm's running mean: ranks validate one model
            dist.broadcast(buffer, 0)
    train_loss = float(weighted(training.objective.weights, *totals))
    seconds = time.perf_counter() - began
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


def _wrap(config: Config, model: nn.Module, context: Context) -> nn.Module:
    """The model as it is trained: in DDP with several ranks, compiled when asked."""
    if context.world_size > 1 and count_parameters(model):  # DDP refuses a model without weights
        model = DistributedDataParallel(model, device_ids=[context.device] if context.device.type == "cuda" else None)
    if config.training.compile:
        torch.compiler.reset()  # nothing of the previous cell in a reused process
        model = torch.compile(model)  # type: ignore[assignment]
    return model
