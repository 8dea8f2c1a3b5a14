"""The cells of a plan as trials on the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations.plan import Plan, PlannedCell
from ablations.tracking import MatrixTracker
from cluster.connection import Connection
from cluster.progress import progress_listener
from cluster.runner import run_cells
from cluster.scheduler import parse_scheduler
from cluster.work import Ended, Listener, Outcome, Work
from experiments.cell import write_failure
from experiments.tracked_cell import train_cell, work_of


class FailureRecords(Listener):
    """Writes the record of a cell that failed: whoever trains it cannot."""

    def __init__(self, cells: Mapping[str, PlannedCell], started_by: Mapping[str, Any]) -> None:
        self._cells, self._started_by = cells, started_by

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Note the traceback next to the cell's checkpoints."""
        if ended.status == "failed":
            write_failure(self._cells[work.key].cell, ended.error or "failed without a word", self._started_by)


def run_unsettled(plan: Plan, connection: Connection, tracker: MatrixTracker, started_by: Mapping[str, Any]) -> Outcome:
    """Train every cell of the plan that is not settled, as many at once as fit on the cluster."""
    planned = {at.cell.hash: at for at in plan.to_run}
    works = [
        work_of(at.cell, at.name, tracker.tags(at), started_by, at.cell.config.training.epochs)
        for at in planned.values()
    ]
    scheduler = plan.matrix.scheduler
    rule: dict[str, Any] = {"type": scheduler.type}
    if scheduler.type == "asha":
        rule |= {
            "grace_period": scheduler.grace_period.of(plan.profile),
            "reduction_factor": scheduler.reduction_factor,
            "max_epochs": max(at.cell.config.training.epochs for at in plan.cells),
        }
    print(f"MLflow: {tracker.where}")
    print(f"Ray dashboard: {connection.dashboard_url or 'not running'} (its token: ray get-auth-token)", flush=True)
    return run_cells(
        works,
        train_cell,
        {plan.data.identity: plan.data},
        resources=plan.matrix.resources,
        scheduler=parse_scheduler(rule),
        connection=connection,
        storage=plan.folder / "tune",
        listeners=[FailureRecords(planned, started_by), tracker.listener, progress_listener(plan.matrix.objective)],
        metric=plan.matrix.objective,
    )
