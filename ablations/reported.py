"""What a matrix's folder says of its last run: all that its report is built from, without data, Ray or MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ablations.arms import Arm
from ablations.cells import TABLE, CellResult, read_cells
from ablations.folders import PLAN, cells_folder, other_version, read_file, read_plan
from ablations.matrix import Matrix, restore_matrix
from ablations.reports.data import ReportData, build_report
from ablations.reports.facts import RunInfo
from altformer.errors import UserError, unknown_name
from altformer.files import write_json
from experiments.cell import read_record

RUN = "run.json"
RUN_SCHEMA = 1


@dataclass(frozen=True)
class Reported:
    """A matrix, its cells as they are on disk now, and what is known of the run that reported on them last.

    ``members`` are the names of the folders beside this one whose distinct cells it trained, for a run over several.
    """

    folder: Path
    matrix: Matrix
    arms: Sequence[Arm]
    results: Sequence[CellResult]
    info: RunInfo
    members: tuple[str, ...] = ()

    @cached_property
    def report(self) -> ReportData:
        """The report's content."""
        return build_report(self.matrix, self.arms, self.results, self.info)

    def cells_of(self, arm: str) -> list[CellResult]:
        """The cells of an arm; UserError with the nearest name where there is no such arm."""
        names = [one.name for one in self.arms]
        if arm not in names:
            raise unknown_name("arm", arm, names, str(self.folder))
        return [result for result in self.results if result.arm == arm]


class _RunFile(BaseModel):
    schema_: Literal[1] = Field(alias="schema")
    file: str | None
    info: dict[str, Any]
    trained: frozenset[str]


def write_run(folder: Path, matrix: Matrix, info: RunInfo, trained: Iterable[str]) -> None:
    """Write ``run.json`` beside ``plan.json``: what of a run neither the plan nor the records say.

    ``trained`` are the hashes of the cells that were this run's to train.
    """
    content = {
        "schema": RUN_SCHEMA,
        "file": matrix.called if matrix.file else None,
        "info": TypeAdapter(RunInfo).dump_python(info, mode="json"),
        "trained": sorted(trained),
    }
    write_json(folder / RUN, content)


def has_run(folder: Path) -> bool:
    """Whether the folder has a ``run.json`` that can be read."""
    try:
        read_file(folder / RUN, _RunFile)
    except UserError:
        return False
    return True


def read_reported(folder: Path) -> Reported:
    """The matrix of a folder that ``altformer ablate`` wrote, by its plan.json, run.json and the cells beside it.

    UserError naming the file that is missing, damaged, or of another version.
    """
    plan, run = read_plan(folder), read_file(folder / RUN, _RunFile)
    cells = cells_folder(folder)
    if not cells.is_dir():
        raise UserError(f"{folder}: its cells are looked for in {cells}, which is not there")
    try:
        matrix = restore_matrix(plan.matrix, run.file)
        info = TypeAdapter(RunInfo).validate_python(run.info)
    except ValidationError as error:
        raise other_version(folder / PLAN, error) from error
    arms = [Arm(arm.name, arm.settings, arm.is_baseline, matrix.where("arms", arm.name)) for arm in plan.arms]
    known = {arm.name for arm in arms}
    if unknown := [cell.arm for cell in plan.cells if cell.arm not in known]:
        raise UserError(f"{folder / PLAN}: damaged: a cell of the arm '{unknown[0]}', which is none of its arms")
    run_ids = _run_ids(folder / TABLE)
    results = [
        CellResult(
            cell.arm,
            cell.seed,
            cell.cell_hash,
            read_record(cells / cell.cell_hash),
            mlflow_run_id=run_ids.get(cell.cell_hash),
            reused=cell.cell_hash not in run.trained,
            folder=cells / cell.cell_hash,
        )
        for cell in plan.cells
    ]
    return Reported(folder.resolve(), matrix, arms, results, info, plan.members)


def _run_ids(table: Path) -> dict[str, str]:
    """The MLflow run of each cell as far as the table of cells has it."""
    try:
        return {row["cell_hash"]: row["mlflow_run_id"] for row in read_cells(table) if row["mlflow_run_id"]}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
