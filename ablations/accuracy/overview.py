"""A campaign as lines of text: its steps and how far they are, and how a cell has ended."""

from __future__ import annotations

from typing import Any

from ablations.accuracy.left import left_of
from ablations.accuracy.steps import AccuracyCampaign
from ablations.numbers import number, spread
from ablations.plan import PlannedCell
from altformer.training.checkpoint import last_curve


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
