"""A slice: some minutes of a campaign, which end with a checkpoint, so that the next ones go on from there."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace
from typing import Any

from ablations.accuracy.at_once import train_at_once, why_not_at_once
from ablations.accuracy.clock import Clock, SliceContext
from ablations.accuracy.records import VALIDATION_ONLY
from ablations.accuracy.steps import AccuracyCampaign, Step, Task
from ablations.plan import PlannedCell
from ablations.tuning.ledger import Ledger
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from altformer.files import DiskFullError, write_json
from cluster.redaction import redact
from experiments import provenance
from experiments.cell import Record, run_cell, write_failure
from experiments.signals import sigterm_raises


@dataclass
class SliceReport:
    """What a slice has done: the cells it began, each with its task, and whether one failed that must not."""

    trained: list[tuple[Task, PlannedCell]] = field(default_factory=list)
    failed: bool = False
    minutes: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether a cell was left in its middle."""
        return any((at.record or {}).get("status") == "interrupted" for _, at in self.trained)


def run_slice(campaign: AccuracyCampaign, minutes: float) -> SliceReport:
    """Train what is next for so many minutes; what is noted is enough for the next call to go on."""
    clock, report = Clock(minutes), SliceReport()
    ledger = Ledger(campaign.out.resolve(), f"campaign-{campaign.name}")
    with sigterm_raises():
        while not report.is_over and (task := next_task(campaign.steps())) is not None:
            _write_note(campaign)
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
    _write_note(campaign)
    report.minutes = (clock.seconds - clock.left) / 60
    return report


def train_seeds(campaign: AccuracyCampaign, task: Task, data: TrafficData, clock: Clock) -> list[PlannedCell]:
    """Train the seeds of one configuration that are open; those that were begun, with their records as they are now.

    At once where the plan says so, the test set is to be read and the configuration allows it; else one by one.
    """
    if task.at_once and len(task.open_cells) > 1:
        why = why_not_at_once(task, data)
        if why is None:
            if not clock.begins():
                return []
            found = train_at_once(task, data, clock, _started_by(campaign, task))
            if found is not None:
                return found
            why = "at once they do not fit into memory"
        print(f"{task.label}: one seed after the other: {why}", flush=True)
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


def _write_note(campaign: AccuracyCampaign) -> None:
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
    started_by = _started_by(campaign, task)
    name = f"{task.label} seed {at.seed}"
    context = SliceContext(name, [at], data, task.params, clock)
    print(f"{name}: {task.params:,} parameters, {clock.left / 60:.1f} minutes left of this slice", flush=True)
    try:
        with context:
            return run_cell(at.cell, data, context, started_by, test=task.test)
    except (UserError, DiskFullError):
        raise
    except Exception as error:
        print(f"{name}: failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", flush=True)
        return write_failure(at.cell, redact(traceback.format_exc()), started_by)


def _started_by(campaign: AccuracyCampaign, task: Task) -> dict[str, Any]:
    started_by = {**provenance.started_by(), "matrix": f"campaign-{campaign.name}"}
    return started_by if task.test else {**started_by, "scheduler": VALIDATION_ONLY}
