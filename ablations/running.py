"""A matrix from plan to report: connect, run what is not settled, record, log, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cells import TABLE, CellResult, read_cells, write_cells
from ablations.further_seeds import looks_of, with_look
from ablations.matrix_lock import only_writer
from ablations.plan import Plan
from ablations.power import MIN_SEEDS
from ablations.reported import has_run, write_run
from ablations.reports.data import ReportData, build_report
from ablations.reports.facts import RunInfo
from ablations.reports.files import write_report
from ablations.tracking import MatrixTracker
from altformer.errors import UserError
from altformer.files import DiskFullError
from cluster.budget import NO_BUDGET, Budget
from cluster.connection import Connection
from cluster.work import FaultKind, Outcome
from experiments import provenance
from experiments.garbage import collect_as_usual

if TYPE_CHECKING:
    from ablations.trials import Trained

SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143}
BUDGET_CODE = 3


@dataclass(frozen=True)
class Finished:
    """A matrix after its run: the plan with the records as they are now, the report, and the outcome of the run.

    ``outcome`` is None when there was nothing to run. ``problem`` says why the report could not be written, ``lost``
    how many attempts at cells were followed by another, by what ended them.
    """

    plan: Plan
    report: ReportData
    outcome: Outcome | None
    problem: str | None = None
    lost: Mapping[FaultKind, int] = field(default_factory=dict)

    @property
    def is_cut_short(self) -> bool:
        """Whether a signal or the budget ended the run, or going on was pointless."""
        outcome = self.outcome
        return outcome is not None and bool(outcome.interrupted or outcome.halted or (outcome.budget and outcome.left))

    @property
    def exit_code(self) -> int:
        """The exit code of the command.

        0 when every cell has a result (diverged is one), 1 when one has none or the report could not be written, 3 when
        a budget ended it before that, 130 / 143 after a signal.
        """
        if self.outcome is not None and self.outcome.interrupted:
            return SIGNAL_CODES.get(self.outcome.interrupted, 1)
        if self.outcome is not None and self.outcome.halted:
            return 1
        if self.outcome is not None and self.outcome.budget and self.outcome.left:
            return BUDGET_CODE
        return 1 if self.plan.to_run or self.problem else 0


def run_plan(
    plan: Plan,
    connect: Callable[[], Connection],
    mlflow_out: Path | None,
    *,
    train: bool = True,
    budget: Budget = NO_BUDGET,
    report_with: Callable[[ReportData, Path], Path] = write_report,
) -> Finished:
    """Run the unsettled cells of a plan on the connection that ``connect`` lends, and report on all cells.

    It is asked for only if there is a cell to run; a matrix that is finished and reported on is only read. MLflow's
    files go below ``mlflow_out`` (None: no MLflow). Without ``train`` nothing is
    run: the cells are reported on as they are. A ``budget`` may end the run before it is through. UserError when
    another process runs this very matrix, or its folder cannot be written; once cells are trained, a report that
    cannot be written is the result's ``problem``.
    """
    with _refusal(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    plan = with_look(plan)
    with only_writer(plan.folder), ThreadPoolExecutor(1, thread_name_prefix="disconnect") as beside:
        if _is_reported(plan, mlflow_out):
            return Finished(plan, build_report(plan.matrix, plan.arms, _results(plan, plan, None), _info(plan)), None)
        with _refusal(plan.folder):
            _begin(plan, train)
        started_by = {**provenance.started_by(), "matrix": plan.folder.name}
        tracker = MatrixTracker(plan, mlflow_out, started_by)
        trained, started = None, time.perf_counter()
        try:
            if plan.to_run and train and not (budget.reached() or budget.cells_left == 0):
                trained = _train(plan, connect, tracker, started_by, budget, beside)
            if trained:
                print("The report is being written.", flush=True)
            now = with_look(plan.refreshed(trained.unwritten if trained else {}))
            tracker.flush()
            results = _results(plan if train else now, now, tracker)
            info = _info(plan, trained.outcome if trained else None, time.perf_counter() - started)
            report = build_report(plan.matrix, plan.arms, results, info)
            problem = _written(now, results, info, report, report_with)
            tracker.log_report(report, done=not plan.to_run)
        finally:
            tracker.close()
    if tracker.problem:
        print(tracker.problem)
    return Finished(now, report, trained.outcome if trained else None, problem, trained.lost if trained else {})


def _begin(plan: Plan, train: bool) -> None:
    """Write down what is going to be run; what is finished already is written with its report."""
    if plan.to_run:
        plan.write()
        write_run(plan.folder, plan.matrix, _info(plan), [at.cell.hash for at in plan.to_run if train])


def _train(
    plan: Plan,
    connect: Callable[[], Connection],
    tracker: MatrixTracker,
    started_by: Mapping[str, Any],
    budget: Budget,
    beside: Executor,
) -> Trained:
    """Run the cells on a connection, which ends ``beside`` what follows, the report, unless it is kept.

    Of a cluster that is gone it is said at once.
    """
    from ablations.trials import run_unsettled  # Ray, only where something runs

    there = connect()
    collect_as_usual()
    try:
        trained = run_unsettled(plan, there, tracker, started_by, budget)
        there.lost = trained.outcome.cluster_lost
    finally:
        if not there.kept:
            beside.submit(there.disconnect).add_done_callback(_tell_failure)
    if there.lost:
        print(ended_early(trained.outcome.halted or "the cluster is gone"), flush=True)
    return trained


def _tell_failure(ended: Future[None]) -> None:
    if error := ended.exception():
        print(f"Attention: Ray did not end as it should ({error}); what was trained is kept", flush=True)


def _written(
    now: Plan,
    results: Sequence[CellResult],
    info: RunInfo,
    report: ReportData,
    report_with: Callable[[ReportData, Path], Path],
) -> str | None:
    """Write all files of a report; why that failed, if it did: what was trained must be shown in any case."""
    folder = now.folder
    try:
        write_cells(folder / TABLE, results)
        report_with(report, folder)
        now.write()
        write_run(folder, now.matrix, info, [at.cell_hash for at in results if not at.reused])
    except OSError as error:
        return cannot_write(folder, error)
    return None


def ended_early(why: str) -> str:
    """The sentence on what made it pointless to go on."""
    return f"Ended early: {why.rstrip('.')}."


def cannot_write(folder: Path, error: OSError) -> str:
    """What to say of a report that could not be written for want of space or permission."""
    advice = "" if isinstance(error, DiskFullError) else "; mend that and give the same command again"
    return f"the report in {folder} could not be written: {error.strerror}{advice}"


@contextmanager
def _refusal(folder: Path) -> Iterator[None]:
    """UserError, before anything is trained, for a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; nothing was trained") from error


def _is_reported(plan: Plan, mlflow_out: Path | None) -> bool:
    """Whether nothing is left to run, to write or to log."""
    if plan.to_run or not plan.is_written() or not (plan.folder / "report.md").is_file() or not has_run(plan.folder):
        return False
    table = plan.folder / TABLE
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
        tuned=plan.tuned.chosen if plan.tuned else {},
        tuning_note=plan.tuned.note if plan.tuned else "",
    )


def _results(before: Plan, now: Plan, tracker: MatrixTracker | None) -> list[CellResult]:
    """The cells as they are now, and which of them needed no run."""
    ran = {at.cell.hash for at in before.to_run}
    return [
        replace(
            at.result,
            mlflow_run_id=tracker.run_id(at.cell.hash) if tracker else None,
            reused=at.cell.hash not in ran,
        )
        for at in now.cells
    ]
