"""Several seeds of one configuration trained at once: one forward and backward pass for all of them.

Each seed has what separate training gives it: initial weights, order of windows, random numbers, norm of its
gradients, moments, validation, checkpoints, patience. Only what is computed in one operation differs, by rounding.

m: models (one for each seed), b: samples of all models, h: output steps, n: sensors, k: terms of the loss
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.data.windows import Batch, Windows
from altformer.errors import UserError
from altformer.model.build import count_parameters
from altformer.model.grouped import Group, drawing_from, grouped, without_form
from altformer.training.augmentation import Augmentation
from altformer.training.average import with_average
from altformer.training.batches import epoch_steps, mixed_seed, nearest, own_shares, steps_seen
from altformer.training.context import Context
from altformer.training.memory import forget_gpu_peak, keep_freed_memory
from altformer.training.objective import Objective, forecast_of, make_objective, weighted
from altformer.training.optimizer import GradientDescent
from altformer.training.part import Part
from altformer.training.run import Result, Run
from altformer.training.stacked import Stacked, StackedDescent

Scope = Callable[[], AbstractContextManager[object]]

#: Among an epoch's metrics: how many seeds were trained at once in it, so that its times are a share of theirs.
AT_ONCE = "seeds_at_once"


@dataclass(frozen=True)
class Member:
    """One seed: what `train` is given of it. What concerns it alone, such as its checkpoints, happens in ``scope``.

    Its context is one of a single worker.
    """

    config: Config
    context: Context
    folder: Path
    scope: Scope = nullcontext


@dataclass(frozen=True)
class _Common:
    """What all seeds have in common."""

    windows: Windows
    objective: Objective
    augmentation: Augmentation


def check_together(config: Config, model: nn.Module) -> None:
    """UserError where the seeds of a configuration, which builds such a model, cannot be trained together."""
    reasons = {
        "training.compile is on": config.training.compile,
        "training.distillation has a teacher": config.training.distillation is not None,
        "Muon looks at each matrix as a whole": config.training.optimizer.type == "Muon",
        "model.class is your own code": config.model.type == "own",
        f"{config.model.type} has no weights to train": not count_parameters(model),
        f"a {without_form(model)} has no form for several models": without_form(model) is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"its seeds cannot be trained together, {reason}; train one after the other, with --seed")


def train_together(members: Sequence[Member], data: TrafficData) -> Iterator[tuple[int, Result]]:
    """Train the members, which differ in their seeds alone; each one's number with its result, as soon as it ends.

    Each goes on from its own last checkpoint, and leaves whenever it would have ended alone. Those at the same step of
    the same epoch train at once, those furthest back first; where the context of one has it leave between two steps,
    so do all of them. UserError for what `check_together` refuses.
    """
    first = members[0]
    if any(member.config.model_copy(update={"seed": first.config.seed}) != first.config for member in members):
        raise ValueError("only seeds of one configuration are trained together")
    device, training = first.context.device, first.config.training
    if device.type == "cpu":
        keep_freed_memory()
    forget_gpu_peak(device)
    windows = Windows.of(data, first.config.dataset.input_len, first.config.dataset.output_len, device)
    runs: dict[int, Run] = {}
    for number, member in enumerate(members):
        with member.scope():
            runs[number] = Run(member.config, data, windows, member.context, member.folder)
    check_together(first.config, runs[0].trained)
    common = _Common(windows, make_objective(training, None, windows), Augmentation(training, windows))
    while runs:
        for number in [number for number, run in runs.items() if not run.epochs_left]:
            with members[number].scope():
                result = runs.pop(number).finish()
            yield number, result
        numbers = _furthest_back(runs)
        for number, (trained, seconds) in zip(numbers, _train_epoch([runs[n] for n in numbers], common), strict=True):
            with members[number].scope():
                ended = _ended(runs[number], trained, seconds)
            if ended:
                del runs[number]
                yield number, ended


def _ended(run: Run, trained: dict[str, float] | Part, seconds: float) -> Result | None:
    """How a run ends after an epoch, or part of one, which took so many seconds; None to go on."""
    if isinstance(trained, Part):
        return run.leave(trained)
    status = run.judge(trained, time.perf_counter() - seconds)
    return run.end(status) if status else None


def _furthest_back(runs: Mapping[int, Run]) -> list[int]:
    """The numbers of those that have done the fewest epochs, and steps of the next one."""
    places = {number: (run.progress.epoch, run.progress.steps_done) for number, run in runs.items()}
    return [number for number, place in places.items() if place == min(places.values())]


def _train_epoch(runs: Sequence[Run], common: _Common) -> list[tuple[dict[str, float] | Part, float]]:
    """One epoch, or what is left of it, of runs that are at the same step: what each has found, its share of the time.

    Part of it where the context of one has them leave. One that diverges goes on without harm to the others; the epoch
    ends early where all have, and that can be seen without waiting for the device.
    """
    if not runs:
        return []
    began, device, options = time.perf_counter(), runs[0].context.device, runs[0].config.training
    epoch = runs[0].progress.epoch + 1
    orders = [epoch_steps(options, common.windows, mixed_seed(run.config.seed, epoch)) for run in runs]
    generators = [_random_numbers(run, epoch) for run in runs]
    joint = _Joint(runs, generators)
    totals = torch.zeros(len(runs), 2, len(common.objective.weights), dtype=torch.float64, device=device)
    for row, run in enumerate(runs):
        if run.progress.part:
            totals[row] += run.progress.part.totals.to(device)
    steps = len(orders[0])
    for step in range(runs[0].progress.steps_done, steps):
        done = (epoch - 1) * steps + step
        lr = joint.optimizer.set_rate(done, steps)
        seen = steps_seen(done, options.horizon_curriculum * steps, common.windows.output_len)
        shares = _shares([order[step] for order in orders], seen, options.batch_size, common.augmentation, generators)
        totals += _step(joint, common, shares, options.precision == "bf16")
        for run in runs:
            run.context.progress(epoch, step + 1, steps)
        if device.type == "cpu" and not totals.isfinite().flatten(1).all(dim=1).any():
            break
        if step + 1 < steps and any(run.context.leave_now() for run in runs):
            joint.hand_back()
            times = _times(runs, began)
            states = [_states(run, epoch, generator) for run, generator in zip(runs, generators, strict=True)]
            left = zip(totals.cpu(), times, states, strict=True)
            return [(Part(step + 1, total.clone(), seconds, random), seconds) for total, seconds, random in left]
    joint.hand_back()
    losses = [float(weighted(common.objective.weights, *total)) for total in totals]
    samples, times = sum(map(len, orders[0])), _times(runs, began)
    return [
        ({"train_loss": loss, "lr": lr, "samples_per_second": samples / seconds, AT_ONCE: float(len(runs))}, seconds)
        for loss, seconds in zip(losses, times, strict=True)
    ]


def _times(runs: Sequence[Run], began: float) -> list[float]:
    """Each run's share of the seconds since then, and what it had taken for the epoch before."""
    share = (time.perf_counter() - began) / len(runs)
    return [share + run.progress.seconds_done for run in runs]


def _states(run: Run, epoch: int, generator: Generator) -> tuple[Tensor, ...]:
    """What a run alone keeps of its random numbers: the CPU's, of which it draws none on a GPU, and the device's."""
    if generator.device.type == "cpu":
        return (generator.get_state(),)
    unused = Generator().manual_seed(mixed_seed(run.config.seed, epoch, run.context.rank))
    return unused.get_state(), generator.get_state()


class _Joint:
    """The models and optimizers of runs as one of each, until they are handed back."""

    def __init__(self, runs: Sequence[Run], generators: Sequence[Generator]) -> None:
        self._runs = runs
        self.model = grouped(runs[0].trained, Group(len(runs), generators)).train()
        self.weights = Stacked([run.trained for run in runs])
        training = runs[0].config.training
        optimizers = [run.descent for run in runs if isinstance(run.descent, GradientDescent)]
        assert len(optimizers) == len(runs), "a model without weights is refused"
        self._descent = StackedDescent(training, self.weights, [run.trained for run in runs], optimizers)
        self.optimizer, averages = with_average(training, self.weights, self._descent)
        self._averages = averages if isinstance(averages, Stacked) and averages is not self.weights else None
        if self._averages is not None:
            self._averages.take_up([run.model for run in runs])

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The forecasts of all models, (b,h,n), for the inputs of all."""
        forecast: Tensor = functional_call(self.model, self.weights.by_name(), inputs)
        return forecast

    def hand_back(self) -> None:
        """Give every run its weights, their average where there is one, and its moments."""
        self.weights.hand_back([run.trained for run in self._runs])
        if self._averages is not None:
            self._averages.hand_back([run.model for run in self._runs])
        self._descent.hand_back()


def _random_numbers(run: Run, epoch: int) -> Generator:
    """A generator on the run's device that gives what torch's own would give to the run alone."""
    generator = Generator(run.context.device).manual_seed(mixed_seed(run.config.seed, epoch, run.context.rank))
    if run.progress.part:
        generator.set_state(run.progress.part.random[-1])  # the device's
    return generator


def _shares(
    origins: Sequence[Tensor], seen: int, batch_size: int, augmentation: Augmentation, generators: Sequence[Generator]
) -> list[tuple[Batch, ...]]:
    """The micro-batches of a step, in each every model's own, from the origins of each model's windows.

    The loss sees the first ``seen`` forecast steps.
    """
    each = []
    for own, generator in zip(origins, generators, strict=True):
        with drawing_from(generator):
            shares = own_shares(own, batch_size, augmentation, rank=0, world_size=1)
        each.append([share.batch for share in nearest(shares, seen)])
    return [*zip(*each, strict=True)]


def _step(joint: _Joint, common: _Common, shares: Sequence[tuple[Batch, ...]], bf16: bool) -> Tensor:
    """One optimizer step of all models over all micro-batches; sums and counts of their losses' terms (m,2,k)."""
    objective = common.objective
    counts = torch.stack([_of_each(objective.counts, share) for share in shares]).sum(dim=0)
    sums = torch.zeros_like(counts, dtype=torch.float64)
    joint.optimizer.zero_grad()
    for share in shares:
        batch = Batch(*(torch.cat(parts) for parts in zip(*share, strict=True)))
        forecast = forecast_of(joint, batch, common.windows.scaler, bf16)
        part = _of_each(objective.sums, forecast.view(len(share), -1, *forecast.shape[1:]), share)
        of_all = weighted(objective.weights, part.T, counts.T)  # the sum of the models' losses
        joint.optimizer.backward(of_all)
        sums += part.detach()
    joint.optimizer.step()
    return torch.stack([sums, counts.double()], dim=1)


def _of_each(terms: Callable[..., Tensor], *operands: Iterable[object]) -> Tensor:
    """What an objective finds of each model's operands (m,k)."""
    return torch.stack([terms(*own) for own in zip(*operands, strict=True)])
