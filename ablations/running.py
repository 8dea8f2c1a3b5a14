"""A matrix from plan to report: connect, run what is not settled, record, log, report."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ablations.cells import CellResult, read_cells, write_cells
from ablations.further_seeds import looks_of, with_look
from ablations.plan import Plan
from ablations.report_data import ReportData, build_report
from ablations.report_facts import RunInfo
from ablations.report_files import write_report
from ablations.reported import has_run, write_run
from ablations.statistics import MIN_SEEDS
from ablations.tracking import MatrixTracker
from altformer.errors import UserError
from cluster.budget import NO_BUDGET, Budget
from cluster.connection import Connection
from cluster.work import Outcome
from experiments import provenance

SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143}
BUDGET_CODE = 3


@dataclass(frozen=True)
class Finished:
    """A matrix after its run: the plan with the records as they are now, the report, and the outcome of the run.

    ``outcome`` is None when there was nothing to run.
    """

    plan: Plan
    report: ReportData
    outcome: Outcome | None

    @property
    def is_cut_short(self) -> bool:
        """Whether a signal or the budget ended the run."""
        outcome = self.outcome
        return outcome is not None and bool(outcome.interrupted or (outcome.budget and outcome.left))

    @property
    def exit_code(self) -> int:
        """0 when every cell has a result (diverged is one), 1 when one has none, 3 when a budget ended it before that,
        130 / 143 after a signal.
        """
        if self.outcome is not None and self.outcome.interrupted:
            return SIGNAL_CODES.get(self.outcome.interrupted, 1)
        if self.outcome is not None and self.outcome.budget and self.outcome.left:
            return BUDGET_CODE
        return 1 if self.plan.to_run else 0


def run_plan(
    plan: Plan,
    connect: Callable[[], Connection],
    mlflow_out: Path | None,
    connection: Connection | None = None,
    *,
    train: bool = True,
    budget: Budget = NO_BUDGET,
    report_with: Callable[[ReportData, Path], Path] = write_report,
) -> Finished:
    """Run the unsettled cells of a plan on ``connection`` and report on all cells.

    Without a connection ``connect`` makes one, but only if there is a cell to run; a matrix that is finished and
    reported on is only read. MLflow's files go below ``mlflow_out`` (None: no MLflow). Without ``train`` nothing is
    run: the cells are reported on as they are. A ``budget`` may end the run before it is through. UserError when
    another process runs this very matrix.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan = with_look(plan)
    with _only_writer(plan.folder):
        if _is_reported(plan, mlflow_out):
            return Finished(plan, build_report(plan.matrix, plan.arms, _results(plan, plan, None), _info(plan)), None)
        plan.write()
        write_run(plan.folder, plan.matrix, _info(plan), [at.cell.hash for at in plan.to_run if train])
        started_by = {**provenance.started_by(), "scheduler": plan.scheduler, "matrix": plan.folder.name}
        tracker = MatrixTracker(plan, mlflow_out, started_by)
        outcome, started = None, time.perf_counter()
        try:
            if plan.to_run and train and not (budget.reached() or budget.cells_left == 0):
                from ablations.trials import run_unsettled  # Ray, only where something runs

                with nullcontext(connection) if connection else connect() as there:
                    outcome = run_unsettled(plan, there, tracker, started_by, budget)
            now = with_look(plan.refreshed())
            tracker.flush()
            results = _results(plan if train else now, now, tracker)
            write_cells(plan.folder / "cells.csv", results)
            info = _info(plan, outcome, time.perf_counter() - started)
            report = build_report(plan.matrix, plan.arms, results, info)
            report_with(report, plan.folder)
            now.write()
            write_run(plan.folder, plan.matrix, info, [at.cell_hash for at in results if not at.reused])
            tracker.log_report(report)
        finally:
            tracker.close()
    if tracker.problem:
        print(tracker.problem)
    return Finished(now, report, outcome)


def _is_reported(plan: Plan, mlflow_out: Path | None) -> bool:
    """Whether nothing is left to run, to write or to log."""
    if plan.to_run or not plan.is_written() or not (plan.folder / "report.md").is_file() or not has_run(plan.folder):
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
        claimed_params=plan.claimed_params,
        notes=plan.notes,
        looks=tuple(look for look in looks_of(plan) if look >= MIN_SEEDS),  # with fewer nothing is tested
        tuned=plan.tuning.chosen if plan.tuning else {},
        tuning_note=plan.tuning.note if plan.tuning else "",
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
            folder=at.cell.folder,
        )
        for at in now.cells
    ]


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the matrix's lock; UserError when another process has it (it is freed by the system when that dies)."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: this matrix is being run by another process; wait for it or end it") from error
        yield
