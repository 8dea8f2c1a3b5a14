"""A matrix in MLflow: one parent run, one child per cell, the report on the parent."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ablations.plan import Plan, PlannedCell
from ablations.reports.data import ReportData
from ablations.tracked_report import report_files, report_metrics, report_tags, varied_params
from cluster.tracking.location import resolve
from cluster.tracking.no_tracker import MatrixRun, NoTracker
from cluster.tracking.tracker import Tracker
from cluster.work import Listener, Work
from experiments import provenance
from experiments.cell_plots import draw_cell_plots
from experiments.programs import program
from experiments.tracked_cell import Artifact, cell_files, final_metrics, flat_params, work_of


class MatrixTracker:
    """Logs a plan's cells through the driver; without a folder for MLflow it does nothing."""

    def __init__(self, plan: Plan, out: Path | None, started_by: Mapping[str, Any]) -> None:
        self._plan, self._out = plan, out
        self._varied = varied_params(plan.arms, {at.arm: flat_params(at.cell) for at in reversed(plan.cells)})
        self._cells = {at.cell.hash: at for at in plan.cells}
        self._tracker = self._open(out, started_by)
        for at in plan.cells:
            if plan.settled(at) and at.record:
                self._log_settled(at, started_by)

    @property
    def listener(self) -> Listener:
        """What is told of running cells."""
        return self._tracker

    @property
    def problem(self) -> str | None:
        """What keeps the log from being complete, in one line."""
        return self._tracker.problem

    @property
    def where(self) -> str:
        """Where the runs can be seen."""
        if self._out is None:
            return "off"
        return self._tracker.url() or f"{program('altformer')} mlflow-ui --out {shlex.quote(str(self._out))}"

    def work(self, at: PlannedCell, started_by: Mapping[str, Any]) -> Work:
        """The cell as a piece of work, with what its arm varies as params of their own."""
        work = work_of(at.cell, at.name, self.tags(at), started_by)
        return replace(work, arm=at.arm, params={**self._varied[at.arm], **work.params})

    def tags(self, at: PlannedCell) -> dict[str, str]:
        """What distinguishes a cell within the matrix."""
        baseline = next((arm.is_baseline for arm in self._plan.arms if arm.name == at.arm), False)
        return {"matrix": self._plan.matrix.name, "arm": at.arm, "baseline": str(baseline).lower()}

    def flush(self) -> None:
        """Wait for what is queued, within limits."""
        self._tracker.flush(60)

    def run_id(self, cell_hash: str) -> str | None:
        """The MLflow run of a cell, if it has been logged."""
        return self._tracker.run_id(cell_hash)

    def log_report(self, report: ReportData, done: bool) -> None:
        """Give the parent run the statistics as metrics, the verdicts as tags, and the report's files.

        The step of the metrics is the number of finished cells: those of a report on more cells come after the others.
        `done`: there was nothing to run, so that nobody has told how the matrix has ended.
        """
        self._tracker.record_matrix(
            metrics=report_metrics(report),
            tags=report_tags(report),
            artifacts=report_files(self._plan.folder),
            step=sum(arm.done for arm in report.arms),
            done=done,
        )

    def close(self) -> None:
        """Write what is left and end the parent run."""
        self._tracker.close(60)

    def _open(self, out: Path | None, started_by: Mapping[str, Any]) -> Tracker | NoTracker:
        if out is None:
            return NoTracker()
        parent = _parent(self._plan, started_by)
        return Tracker(resolve(out), parent, final_metrics=final_metrics, cell_artifacts=self._artifacts)

    def _artifacts(self, work: Work, status: str, record: Mapping[str, Any] | None) -> list[Artifact]:
        cell = self._cells[work.key].cell
        plots = self._plots(cell.folder, record) if record else []
        return [*cell_files(cell, record or {}), *((path, "plots") for path in plots)]

    def _plots(self, folder: Path, record: Mapping[str, Any]) -> list[Path]:
        """A cell's plots, drawn unless another matrix that has the cell did so since its record was written."""
        drawn, written = sorted((folder / "plots").glob("*.png")), folder / "record.json"
        if drawn and written.is_file() and min(map(_time, drawn)) >= _time(written):
            return drawn
        return draw_cell_plots(folder, record, self._plan.data.step_minutes, self._plan.data.unit)

    def _log_settled(self, at: PlannedCell, started_by: Mapping[str, Any]) -> None:
        """A cell that needs no run of its own still appears below this matrix, once."""
        record = at.record
        assert record is not None
        work, made = self.work(at, started_by), record["provenance"]
        first = made.get("matrix")
        self._tracker.record_finished(
            work,
            record["curve"],
            final_metrics(record),
            record["status"],
            artifacts=lambda: self._artifacts(work, record["status"], record),
            reused_from=first if first != self._plan.folder.name else None,
            started=_seconds(made.get("started")),
            ended=_seconds(made.get("ended")),
        )


def attach(plan: Plan, out: Path, files: Sequence[Artifact]) -> None:
    """Add files to the parent run of a matrix that has been run; out of reach, they wait as everything logged does."""
    tracker = Tracker(resolve(out), _parent(plan, provenance.started_by()))
    tracker.record_matrix(artifacts=files)
    tracker.close(60)
    if tracker.problem:
        print(tracker.problem)


def _parent(plan: Plan, started_by: Mapping[str, Any]) -> MatrixRun:
    """The run that stands for the matrix itself."""
    tags = {
        "matrix": plan.matrix.name,
        "dataset": plan.data.name,
        "data_hash": plan.data.identity,
        "profile": plan.profile,
        **provenance.commit_tags(started_by),
        "command": str(started_by.get("command")),
        "scheduler": plan.matrix.scheduler.type,
        "baseline": str(plan.matrix.baseline),
        "arms": str(len(plan.arms)),  # tags, since MLflow never changes a param and arms and seeds may be added
        "seeds": str(len({at.seed for at in plan.cells})),
    }
    name = f"{plan.matrix.heading} on {plan.data.name} ({plan.profile})"
    return MatrixRun(plan.folder.name, name, {"base": plan.matrix.base}, tags)


def _seconds(time: str | None) -> float | None:
    """A time of a record in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp() if time else None


def _time(path: Path) -> float:
    return path.stat().st_mtime
