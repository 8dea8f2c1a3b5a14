"""A campaign as lines of text: its steps and how far they are, what is left and for how long, how a cell ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.accuracy.steps import AccuracyCampaign, Step, Task
from ablations.plan import PlannedCell
from ablations.reports.numbers import number, spread
from altformer.training.checkpoint import Curve, last_curve
from experiments.cell import at_once
from experiments.pace import cost_key


def overview(campaign: AccuracyCampaign) -> str:
    """The steps of a campaign and how far they are, as lines of text."""
    steps, plan = campaign.steps(), campaign.plan
    rows: list[tuple[str, ...]] = [("step", "", "data set", "parameters", "cells", "val MAE", "test MAE")]
    for step in steps:
        for task in step.tasks:
            done = f"{len(task.cells) - len(task.open_cells)} of {len(task.cells)}"
            numbers = [number(task.val), spread(task.summary("test_mae"))]
            rows.append((task.step, task.name, task.dataset, f"{task.params:,}", done, *numbers))
        if step.provisional:
            rows.append((f"  {step.name}: starts from what is chosen before; shown over the best so far", *[""] * 6))
        elif step.name.startswith("tune") and step.best is not None:
            rows.append((f"  best{'' if step.is_settled else ' so far'}: {step.best.name}", *[""] * 6))
    widths = [max(len(row[column]) for row in rows if any(row[1:])) for column in range(7)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    machine = f"{campaign.machine.device}, {campaign.machine.threads} threads"
    return "\n".join([f"{campaign.name}: {plan.title or plan.base} ({machine})", *lines, f"left: {left_of(steps)}"])


def outcome(at: PlannedCell) -> str:
    """How a cell is after the slice."""
    record: dict[str, Any] = at.record or {}
    if record["status"] == "interrupted":
        return f"left with a checkpoint after epoch {len(last_curve(at.cell.folder))}"
    if record["status"] == "failed":
        return f"failed; {at.cell.folder / 'record.json'} has the error, and without it the cell is tried again"
    if record["status"] == "diverged":
        return f"diverged after epoch {record['epochs']}"
    val = f"val MAE {record['val']['all']['mae']:.4f} at epoch {record['best_epoch']} of {record['epochs']}"
    return f"{val}, test MAE {record['test']['all']['mae']:.4f}" if record["test"] else f"{val}; no test set read"


@dataclass(frozen=True)
class Left:
    """Cells that are open, and seconds of training at most; None where no epoch of the campaign tells how long."""

    cells: int
    seconds: float | None

    def __str__(self) -> str:
        if not self.cells:
            return "nothing"
        time = "no epoch has been timed yet" if self.seconds is None else f"at most about {_minutes(self.seconds)}"
        return f"{self.cells} {'cell' if self.cells == 1 else 'cells'}, {time}"


def left_of(steps: Sequence[Step]) -> Left:
    """What is left, by the epochs that were trained: of a cell of equal cost, else of any on the same data set."""
    tasks = [task for step in steps for task in step.tasks]
    open_cells = {at.cell.hash: (task, at) for task in tasks for at in task.open_cells}
    costs = {at_once: _epoch_seconds(tasks, at_once) for at_once in (False, True)}
    total: float | None = 0.0
    for task, at in open_cells.values():
        known = costs[task.at_once]
        seconds = known.get(cost_key(task.config), known.get(task.dataset))
        if seconds is None or total is None:
            total = None
            continue
        total += seconds * max(task.config.training.epochs - len(_curve(at)), 0)
    return Left(len(open_cells), total)


def _epoch_seconds(tasks: Iterable[Task], together: bool) -> dict[str, float]:
    """The median epoch by cost of a configuration, and by data set, for seeds one by one or a share of those together.

    Where no epoch is of that kind, by those of the other: an epoch of all seeds takes one no longer, nor does a share.
    """
    found: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for task in tasks:
        for at in task.cells:
            for epoch in _curve(at):
                group = at_once(epoch)
                seconds = epoch["epoch_seconds"] * (1 if together else max(group, 1))
                for key in (cost_key(task.config), task.dataset):
                    found[bool(group) == together].setdefault(key, []).append(seconds)
    return {key: statistics.median(seconds) for kind in (False, True) for key, seconds in found[kind].items()}


def _curve(at: PlannedCell) -> Curve:
    """The epochs of a cell, those of its checkpoint where it has no result yet."""
    return at.record["curve"] if at.record else last_curve(at.cell.folder)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
