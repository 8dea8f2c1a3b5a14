"""The cells of a plan as trials on the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablations.contests import baselines_first, rule_of, scheduler_of
from ablations.plan import Plan, PlannedCell
from ablations.tracking import MatrixTracker
from cluster.budget import Budget
from cluster.connection import Connection
from cluster.progress import progress_listener
from cluster.runner import run_cells
from cluster.work import Ended, Listener, Outcome, Work
from experiments.cell import write_failure
from experiments.tracked_cell import train_cell


class FailureRecords(Listener):
    """Writes the record of a cell that failed: whoever trains it cannot."""

    def __init__(self, cells: Mapping[str, PlannedCell], started_by: Mapping[str, Any]) -> None:
        self._cells, self._started_by = cells, started_by

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Note the traceback next to the cell's checkpoints."""
        if ended.status == "failed":
            write_failure(self._cells[work.key].cell, ended.error or "failed without a word", self._started_by)


def run_unsettled(
    plan: Plan, connection: Connection, tracker: MatrixTracker, started_by: Mapping[str, Any], budget: Budget
) -> Outcome:
    """Train every cell of the plan that is not settled, as many at once as fit on the cluster."""
    planned = {at.cell.hash: at for at in baselines_first(plan, plan.to_run)}
    works = [
        replace(
            tracker.work(at, {**started_by, "scheduler": rule_of(plan, at)}, at.cell.config.training.epochs),
            expected_seconds=plan.expected.get(at.cell.hash),
        )
        for at in planned.values()
    ]
    print(f"MLflow: {tracker.where}")
    print(f"Ray dashboard: {connection.dashboard_url or 'not running'} (its token: ray get-auth-token)", flush=True)
    return run_cells(
        works,
        train_cell,
        {plan.data.identity: plan.data},
        resources=plan.matrix.resources,
        scheduler=scheduler_of(plan),
        connection=connection,
        storage=plan.folder / "tune",
        listeners=[FailureRecords(planned, started_by), tracker.listener, progress_listener(plan.matrix.objective)],
        metric=plan.matrix.objective,
        budget=budget,
    )
