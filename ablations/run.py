"""A matrix from plan to report: connect, run what is not settled, record, log, report."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.cells import CellResult, read_cells, write_cells
from ablations.plan import Plan, PlannedCell
from ablations.report import write_report
from ablations.report_data import ReportData, build_report
from ablations.report_facts import RunInfo
from ablations.tracking import MatrixTracker
from altformer.errors import UserError
from cluster.connection import Connection
from cluster.progress import progress_listener
from cluster.runner import run_cells
from cluster.scheduler import parse_scheduler
from cluster.work import Ended, Listener, Outcome, Work
from experiments import provenance
from experiments.cell import write_failure
from experiments.tracked_cell import train_cell, work_of

SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143}


class FailureRecords(Listener):
    """Writes the record of a cell that failed: whoever trains it cannot."""

    def __init__(self, cells: Mapping[str, PlannedCell], started_by: Mapping[str, Any]) -> None:
        self._cells, self._started_by = cells, started_by

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Note the traceback next to the cell's checkpoints."""
        if ended.status == "failed":
            write_failure(self._cells[work.key].cell, ended.error or "failed without a word", self._started_by)


@dataclass(frozen=True)
class Finished:
    """A matrix after its run: the plan with the records as they are now, the report, and the outcome of the run.

    ``outcome`` is None when there was nothing to run.
    """

    plan: Plan
    report: ReportData
    outcome: Outcome | None

    @property
    def exit_code(self) -> int:
        """0 when every cell has a result (diverged is one), 1 when one has none, 130 / 143 after a signal."""
        if self.outcome is not None and self.outcome.interrupted:
            return SIGNAL_CODES.get(self.outcome.interrupted, 1)
        return 1 if self.plan.to_run else 0


def run_plan(
    plan: Plan, connect: Callable[[], Connection], mlflow_out: Path | None, connection: Connection | None = None
) -> Finished:
    """Run the unsettled cells of a plan on ``connection`` and report on all cells.

    Without a connection ``connect`` makes one, but only if there is a cell to run; a matrix that is finished and
    reported on is only read. MLflow's files go below ``mlflow_out`` (None: no MLflow). UserError when another process
    runs this very matrix.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(plan.folder):
        if _is_reported(plan, mlflow_out):
            return Finished(plan, build_report(plan.matrix, plan.arms, _results(plan, plan, None), _info(plan)), None)
        plan.write()
        started_by = {
            **provenance.git_state(),
            "command": provenance.command(),
            "scheduler": plan.scheduler,
            "matrix": plan.folder.name,
        }
        tracker = MatrixTracker(plan, mlflow_out, started_by)
        outcome, started = None, time.perf_counter()
        try:
            if plan.to_run:
                with nullcontext(connection) if connection else connect() as there:
                    outcome = _run_cells(plan, there, tracker, started_by)
            now = plan.refreshed()
            tracker.flush()
            results = _results(plan, now, tracker)
            write_cells(plan.folder / "cells.csv", results)
            info = _info(plan, outcome, time.perf_counter() - started)
            report = build_report(plan.matrix, plan.arms, results, info)
            write_report(report, plan.folder)
            now.write()
            tracker.log_report(report)
        finally:
            tracker.close()
    if tracker.problem:
        print(tracker.problem)
    return Finished(now, report, outcome)


def _is_reported(plan: Plan, mlflow_out: Path | None) -> bool:
    """Whether nothing is left to run, to write or to log."""
    if plan.to_run or not plan.is_written() or not (plan.folder / "report.md").is_file():
        return False
    table = plan.folder / "cells.csv"
    return table.is_file() and (mlflow_out is None or all(row["mlflow_run_id"] for row in read_cells(table)))


def _info(plan: Plan, outcome: Outcome | None = None, seconds: float | None = None) -> RunInfo:
    return RunInfo(
        dataset=plan.data.name,
        profile=plan.profile,
        command=provenance.command(),
        step_minutes=plan.data.step_minutes,
        unit=plan.data.unit,
        wall_seconds=seconds if outcome else None,
        slots=outcome.slots if outcome else None,
    )


def _results(before: Plan, now: Plan, tracker: MatrixTracker | None) -> list[CellResult]:
    """The cells as they are now, and which of them needed no run."""
    ran = {at.cell.hash for at in before.to_run}
    return [
        CellResult(
            at.arm,
            at.seed,
            at.cell.hash,
            at.record,
            mlflow_run_id=tracker.run_id(at.cell.hash) if tracker else None,
            reused=at.cell.hash not in ran,
        )
        for at in now.cells
    ]


def _run_cells(plan: Plan, connection: Connection, tracker: MatrixTracker, started_by: Mapping[str, Any]) -> Outcome:
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
            "max_epochs": max(at.cell.config.training.epochs for at in planned.values()),
        }
    print(f"Ray dashboard: {connection.dashboard_url or 'not running'}", flush=True)
    return run_cells(
        works,
        train_cell,
        {plan.data.content_hash: plan.data},
        resources=plan.matrix.resources,
        scheduler=parse_scheduler(rule),
        connection=connection,
        storage=plan.folder / "tune",
        listeners=[FailureRecords(planned, started_by), tracker.listener, progress_listener(plan.matrix.objective)],
        metric=plan.matrix.objective,
    )


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the matrix's lock; UserError when another process has it (it is freed by the system when that dies)."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: this matrix is being run by another process; wait for it or end it") from error
        yield
