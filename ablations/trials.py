"""The cells of a plan as trials on the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ablations.contests import baselines_first, rule_of, scheduler_of
from ablations.estimate import epochs_done
from ablations.events import Events
from ablations.plan import Plan, PlannedCell
from ablations.tracking import MatrixTracker
from cluster.budget import Budget
from cluster.connection import Connection
from cluster.metrics import Metrics
from cluster.progress import progress_listener
from cluster.runner import run_cells
from cluster.work import Ended, Fault, FaultKind, Listener, Outcome, Work
from experiments.cell import Record, failure_record, write_failure
from experiments.programs import program
from experiments.tracked_cell import train_cell


@dataclass(frozen=True)
class Trained:
    """How the cells of a plan ended.

    ``unwritten`` are the records of failed cells, by hash, that are not on the disk: for want of room, or since a cell
    keeps the result that another matrix has of it; ``lost`` counts the attempts that were followed by another, by what
    ended them.
    """

    outcome: Outcome
    unwritten: Mapping[str, Record]
    lost: Mapping[FaultKind, int]


class FailureRecords(Listener):
    """Writes the record of a cell that failed, which whoever trains it cannot, and counts lost attempts."""

    def __init__(self, cells: Mapping[str, PlannedCell], started_by: Mapping[str, Any]) -> None:
        self._cells, self._started_by = cells, started_by
        self.unwritten: dict[str, Record] = {}
        self.lost: Counter[FaultKind] = Counter()

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """Count it."""
        self.lost[fault.kind] += 1

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Note the traceback next to the cell's checkpoints; where that cannot be written, keep it."""
        if ended.status != "failed":
            return
        failed = (self._cells[work.key].cell, ended.error or "failed without a word", self._started_by, ended.fault)
        try:
            write_failure(*failed)
        except OSError:
            self.unwritten[work.key] = failure_record(*failed)


def run_unsettled(
    plan: Plan, connection: Connection, tracker: MatrixTracker, started_by: Mapping[str, Any], budget: Budget
) -> Trained:
    """Train every cell of the plan that is not settled, as many at once as fit on the cluster."""
    planned = {at.cell.hash: at for at in baselines_first(plan, plan.to_run)}
    works = [
        replace(
            tracker.work(at, {**started_by, "scheduler": rule_of(plan, at)}),
            epochs_done=epochs_done(at.cell),
            expected_seconds=plan.expected.get(at.cell.hash),
        )
        for at in planned.values()
    ]
    print(f"MLflow: {tracker.where}")
    print(
        f"Ray dashboard: {connection.dashboard_url or 'not running'} (its token: {program('ray')} get-auth-token)",
        flush=True,
    )
    failures = FailureRecords(planned, started_by)
    outcome = run_cells(
        works,
        train_cell,
        {plan.data.identity: plan.data},
        resources=plan.matrix.resources,
        scheduler=scheduler_of(plan),
        connection=connection,
        storage=plan.folder / "tune",
        listeners=[
            failures,
            Events(plan.folder, plan.matrix.objective),
            tracker.listener,
            Metrics(plan.folder.name, plan.matrix.objective),
            progress_listener(plan.matrix.objective),
        ],
        metric=plan.matrix.objective,
        budget=budget,
        retries=plan.matrix.retries,
    )
    return Trained(outcome, failures.unwritten, failures.lost)
