"""A slice: some minutes of a campaign, which end with a checkpoint, so that the next ones go on from there."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ablations.accuracy.records import VALIDATION_ONLY
from ablations.accuracy.steps import AccuracyCampaign, Step, Task
from ablations.plan import PlannedCell
from ablations.tuning.ledger import Ledger
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from altformer.files import DiskFullError, write_json
from altformer.training.checkpoint import last_curve
from altformer.training.config import selection_metric
from cluster.redaction import redact
from experiments import provenance
from experiments.cell import Record, run_cell, write_failure
from experiments.pace import load_of
from experiments.signals import sigterm_raises
from experiments.train_progress import TrainProgress

LEAVING = 1.0  # seconds to write a checkpoint
_SCORED_SHARE = 1 / 3  # of a window's training is its forward pass, as long as no epoch has been scored


class Clock:
    """What is left of a slice, in seconds; ``startup`` is the longest time until a cell's first step was done."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.began = time.monotonic()
        self.startup = 0.0
        self._begun = False

    @property
    def left(self) -> float:
        """Seconds until the slice must end; below zero when that is over."""
        return self.seconds - (time.monotonic() - self.began)

    def begins(self) -> bool:
        """Whether a cell is begun now: the first of a slice always is, another if it gets further than its start."""
        first, self._begun = not self._begun, True
        return first or self.left > 2 * self.startup


class SliceContext(TrainProgress):
    """Leaves where the slice is over: between two steps, and where there is no time left to score before a scoring."""

    def __init__(self, name: str, cell: PlannedCell, data: TrafficData, params: int, clock: Clock) -> None:
        config = cell.cell.config
        metric = selection_metric(config.training)
        super().__init__(cell.cell.machine.device, config.training.epochs, name, lambda metrics: None, metric)
        self._clock, self._load = clock, load_of(config, data, params)
        self._batch = config.training.batch_size * config.training.gradient_accumulation_steps
        self._began = self._stepped = time.monotonic()  # when it was made, then the first step; the last step
        self._steps, self._left = 0, 0  # done here, and of this epoch to be done
        self._window: float | None = None  # seconds to score one, once known
        if curve := last_curve(cell.cell.folder):
            seconds = curve[-1]["epoch_seconds"] - self._load.trained / curve[-1]["samples_per_second"]
            self._window = max(seconds, 0.0) / self._load.validated

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Note when a step was done."""
        super().progress(epoch, step, steps)
        self._steps, self._left, self._stepped = self._steps + 1, steps - step, time.monotonic()
        if self._steps == 1:
            self._clock.startup = max(self._clock.startup, self._stepped - self._began)
            self._began = self._stepped

    def report(self, metrics: Mapping[str, float]) -> None:
        """Note what scoring takes."""
        self._window = (time.monotonic() - self._stepped) / self._load.validated
        super().report(metrics)

    def should_stop(self) -> str | None:
        """After an epoch: the test may follow."""
        return "the slice is over" if self._clock.left < LEAVING + self._scoring(self._load.tested) else None

    def leave_now(self) -> bool:
        """After a step; after an epoch's last one, where this is not asked, its validation follows."""
        needed = LEAVING + 2 * self._step_seconds
        if self._left == 1:
            needed += self._scoring(self._load.validated)
        return self._clock.left < needed

    @property
    def _step_seconds(self) -> float:
        """Of a step but the first, as far as there was one."""
        return (self._stepped - self._began) / max(self._steps - 1, 1)

    def _scoring(self, windows: int) -> float:
        """Seconds to score so many windows; before the first time guessed from the steps."""
        window = self._step_seconds / self._batch * _SCORED_SHARE if self._window is None else self._window
        return windows * window


@dataclass
class SliceReport:
    """What a slice has done: the cells it began, each with its task, and whether one failed that must not."""

    trained: list[tuple[Task, PlannedCell]] = field(default_factory=list)
    failed: bool = False
    minutes: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the last cell was left in its middle."""
        return bool(self.trained) and (self.trained[-1][1].record or {}).get("status") == "interrupted"


def run_slice(campaign: AccuracyCampaign, minutes: float) -> SliceReport:
    """Train what is next for so many minutes; what is noted is enough for the next call to go on."""
    clock, report = Clock(minutes), SliceReport()
    ledger = Ledger(campaign.out.resolve(), f"campaign-{campaign.name}")
    with sigterm_raises():
        while not report.is_over and (task := next_task(campaign.steps())) is not None:
            write_note(campaign)
            data = campaign.data(task.config.dataset)
            if task.test:
                ledger.plan_cells(task.step, task.open_cells, data.name)
            ended = train_seeds(campaign, task, data, clock)
            report.trained += [(task, at) for at in ended]
            if task.test:
                ledger.add_cells(task.step, ended)
            if any(at.has_failed for at in ended) and task.test:
                report.failed = True
                break
            if len(ended) < len(task.open_cells):
                break  # no time to begin another
    write_note(campaign)
    report.minutes = (clock.seconds - clock.left) / 60
    return report


def train_seeds(campaign: AccuracyCampaign, task: Task, data: TrafficData, clock: Clock) -> list[PlannedCell]:
    """Train the seeds of one configuration that are open; those that were begun, with their records as they are now.

    This is the one place where a campaign trains: here one seed after the other, each in its cell's folder. What trains
    them all in one model takes the same arguments, and leaves its folders and records as `run_cell` does.
    """
    ended: list[PlannedCell] = []
    for at in task.open_cells:
        if not clock.begins():
            break
        ended.append(replace(at, record=_train(campaign, task, at, data, clock)))
        if (ended[-1].record or {})["status"] == "interrupted":
            break
    return ended


def next_task(steps: list[Step]) -> Task | None:
    """The first task with something to train."""
    return next((task for step in steps for task in step.tasks if task.open_cells), None)


def write_note(campaign: AccuracyCampaign) -> None:
    """Note which cells are the campaign's: `altformer gc` spares what is named beside ``cells/``. It is never read."""
    cells = [
        {
            "step": task.step,
            "name": task.name,
            "dataset": task.dataset,
            "seed": at.seed,
            "cell_hash": at.record["cell_hash"] if at.record else at.cell.hash,
        }
        for step in campaign.steps()
        for task in step.tasks
        for at in task.cells
    ]
    write_json(campaign.folder / "cells.json", cells)


def _train(campaign: AccuracyCampaign, task: Task, at: PlannedCell, data: TrafficData, clock: Clock) -> Record:
    """Train one cell; one that fails has a record of that, as in a matrix."""
    started_by: dict[str, Any] = {**provenance.started_by(), "matrix": f"campaign-{campaign.name}"}
    if not task.test:
        started_by["scheduler"] = VALIDATION_ONLY
    name = f"{task.label} seed {at.seed}"
    context = SliceContext(name, at, data, task.params, clock)
    print(f"{name}: {task.params:,} parameters, {clock.left / 60:.1f} minutes left of this slice", flush=True)
    try:
        with context:
            return run_cell(at.cell, data, context, started_by, test=task.test)
    except (UserError, DiskFullError):
        raise
    except Exception as error:
        print(f"{name}: failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", flush=True)
        return write_failure(at.cell, redact(traceback.format_exc()), started_by)
