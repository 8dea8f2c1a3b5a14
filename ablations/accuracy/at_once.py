"""All seeds of a configuration at once in a slice, as one model: for a card that one of them does not fill."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablations.accuracy.clock import Clock, SeedInSlice, SliceContext
from ablations.accuracy.steps import Task
from ablations.plan import PlannedCell
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from altformer.files import DiskFullError
from cluster.faults import kind_of_raised
from cluster.redaction import redact
from experiments.cell import Record, write_failure
from experiments.cells_together import run_together


def why_not_at_once(task: Task, data: TrafficData) -> str | None:
    """Why the seeds of a configuration cannot be trained at once, or None."""
    from altformer.fit_check import check_fit
    from altformer.training.together import check_together

    try:
        check_together(task.config, check_fit(task.config, data))
    except UserError as error:
        return str(error)
    return None


def train_at_once(
    task: Task, data: TrafficData, clock: Clock, started_by: Mapping[str, Any]
) -> list[PlannedCell] | None:
    """Train all open seeds of a configuration, each in its cell's folder; those that fail have a record of that.

    None where they need more memory than there is, so that nothing is done yet.
    """
    cells = task.open_cells
    listed = ", ".join(str(at.seed) for at in cells)
    minutes = f"{clock.left / 60:.1f} minutes left of this slice"
    print(f"{task.label} seeds {listed} at once: {task.params:,} parameters each, {minutes}", flush=True)
    shown = SliceContext(task.label, cells, data, task.params, clock)
    contexts = [SeedInSlice(shown, at.seed) for at in cells]
    records: dict[str, Record] = {}
    try:
        with shown:
            for cell, record in run_together([at.cell for at in cells], data, contexts, started_by):
                records[cell.hash] = record
    except (UserError, DiskFullError):
        raise
    except Exception as error:
        if kind_of_raised(error) == "memory" and not records:
            return None
        print(f"{task.label}: failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", flush=True)
        text = redact(traceback.format_exc())
        for at in cells:
            if at.cell.hash not in records:
                records[at.cell.hash] = write_failure(at.cell, text, started_by)
    return [replace(at, record=records[at.cell.hash]) for at in cells]
