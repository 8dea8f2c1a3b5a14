"""The cells of a matrix with what became of them, and ``cells.csv``, the table of them all."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altformer.files import write_text
from experiments.csv_text import armed, csv_text, defused
from experiments.runs import Run

TABLE = "cells.csv"
MISSING = "-"
COLUMNS = (
    "arm",
    "seed",
    "status",
    "epochs",
    "best_epoch",
    "val_mae",
    "test_mae",
    "test_rmse",
    "test_mape",
    "test_mae_3",
    "test_mae_6",
    "test_mae_12",
    "test_mae_unmasked",
    "test_windows",
    "profile",
    "params",
    "train_seconds",
    "cell_hash",
    "mlflow_run_id",
    "test_rmse_3",
    "test_rmse_6",
    "test_rmse_12",
    "test_mape_3",
    "test_mape_6",
    "test_mape_12",
    "val_mae_unmasked",
    "dataset",
    "data_hash",
    "error",
)
INTEGERS = frozenset({"seed", "epochs", "best_epoch", "test_windows", "params"})
TEXTS = frozenset({"arm", "status", "profile", "cell_hash", "mlflow_run_id", "dataset", "data_hash", "error"})


@dataclass(frozen=True)
class CellResult:
    """One arm with one seed, and its record; no record: not run yet."""

    arm: str
    seed: int
    cell_hash: str
    record: Mapping[str, Any] | None
    mlflow_run_id: str | None = None
    reused: bool = False  # done before this run
    folder: Path | None = None  # where its record, checkpoints and test errors are

    @property
    def status(self) -> str:
        """done, stopped, diverged, failed; ``not run`` without a record."""
        return str(self.record["status"]) if self.record else "not run"

    @property
    def run(self) -> Run | None:
        """Where it was trained, if it is done; None where its folder is not known."""
        return Run(self.folder, dict(self.record)) if self.status == "done" and self.record and self.folder else None

    @property
    def curve(self) -> Sequence[Mapping[str, Any]]:
        """What was measured at each epoch, as far as it came."""
        return (self.record or {}).get("curve") or ()

    @property
    def training(self) -> Mapping[str, Any]:
        """How it was trained, by its record; empty without one."""
        return ((self.record or {}).get("config") or {}).get("training") or {}

    def at_epoch(self, metric: str, epoch: int) -> float | None:
        """A metric of the curve after an epoch (from 1)."""
        value = next((one.get(metric) for one in self.curve if one.get("epoch") == epoch), None)
        return None if value is None else float(value)

    def value(self, column: str) -> float | None:
        """A number of the record by its column (``test_mae_3``, ``val_mae``, ``params``); None where there is none.

        Infinity and NaN are no numbers, and a cell that is not done has no test numbers.
        """
        if self.record is None:
            return None
        part, _, metric = column.partition("_")
        if part not in ("val", "test"):
            return _finite(self.record.get(column))
        if part == "test" and self.status != "done":
            return None
        scores = self.record.get(part) or {}
        if metric in ("mae_unmasked", "windows"):
            return _finite(scores.get(metric))
        name, _, step = metric.partition("_")
        return _finite((scores.get(step or "all") or {}).get(name))


def by_seed(cells: Iterable[CellResult], column: str) -> dict[int, float]:
    """The column of the cells that are done, by seed; nothing for an arm with stopped cells, whose rest is selected."""
    cells = list(cells)
    if any(cell.status == "stopped" for cell in cells):
        return {}
    values = {cell.seed: cell.value(column) for cell in cells if cell.status == "done"}
    return {seed: value for seed, value in values.items() if value is not None}


def done_runs(cells: Iterable[CellResult]) -> dict[str, list[Run]]:
    """The cells that are done, by arm; none for an arm that lacks one, so that all its seeds count or none."""
    by_arm: dict[str, list[CellResult]] = {}
    for cell in cells:
        by_arm.setdefault(cell.arm, []).append(cell)
    found = {arm: [cell.run for cell in of_arm] for arm, of_arm in by_arm.items()}
    return {arm: [run for run in runs if run] for arm, runs in found.items() if all(runs)}


def write_cells(path: Path, results: Iterable[CellResult]) -> None:
    """Write ``cells.csv``, whole or not at all: one row per cell that has a record, ``-`` for what is missing.

    Texts that a spreadsheet would run as a formula get a leading apostrophe, which ``read_cells`` takes away again.
    """
    rows = [[_cell_text(result, column) for column in COLUMNS] for result in results if result.record is not None]
    write_text(path, csv_text([COLUMNS, *rows]))


def read_cells(path: Path) -> list[dict[str, Any]]:
    """The rows of ``cells.csv`` with numbers as numbers and ``-`` as None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: _parse(column, text) for column, text in row.items()} for row in csv.DictReader(file)]


def _cell_text(result: CellResult, column: str) -> str:
    if column in TEXTS:
        value = _text_of(result, column)
        return MISSING if value is None else defused(value)
    number = float(result.seed) if column == "seed" else result.value(column)
    if number is None:
        return MISSING
    return str(int(number)) if column in INTEGERS else repr(number)


def _text_of(result: CellResult, column: str) -> str | None:
    if column in ("arm", "status", "cell_hash", "mlflow_run_id"):
        text: str | None = getattr(result, column)
        return text
    value = (result.record or {}).get(column)
    return None if value is None else str(value)


def _parse(column: str, text: str) -> Any:
    if text == MISSING:
        return None
    if column in TEXTS:
        return armed(text)
    return int(text) if column in INTEGERS else float(text)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
