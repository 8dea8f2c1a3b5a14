"""What was trained: found by the names its user has for it, and the best of it by validation."""

from __future__ import annotations

import csv
import difflib
import glob
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from altformer.config import Config
from altformer.errors import UserError, unknown_name
from altformer.scores import flatten
from experiments.cell import Record, read_record
from experiments.csv_text import armed

PREFIX = 6  # so many digits of a cell's hash are enough
RUN_HELP = "cell hash (6 digits or more), folder of a cell, or experiment name"
_HEX = re.compile(r"[0-9a-f]{6,16}")


@dataclass(frozen=True)
class Run:
    """A cell that was trained to its end: the folder that holds its checkpoints, and its record."""

    folder: Path
    record: Record

    @property
    def hash(self) -> str:
        """The cell's hash."""
        return str(self.record["cell_hash"])

    @property
    def config(self) -> Config:
        """The configuration it was trained with; UserError when this version no longer knows it."""
        try:
            return Config.model_validate(self.record["config"])
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{self.folder / 'record.json'}: written by another version of altformer: {field}: {first['msg']}"
            ) from error

    def __str__(self) -> str:
        return f"{self.hash} (seed {self.record['seed']})"


def validation_of(run: Run, objective: str) -> float:
    """A run's objective (``val_mae``, ``val_mae_12``, ...) at its best epoch; infinity where it has none."""
    return flatten("val", run.record["val"]).get(objective, float("inf"))


def best_arm(arms: Mapping[str, Sequence[Run]], objective: str) -> tuple[str, Run, float]:
    """The arm with the lowest mean objective on validation, the best of its runs, and that mean.

    The test set has no part in it.
    """

    def mean(arm: str) -> float:
        return sum(validation_of(run, objective) for run in arms[arm]) / len(arms[arm])

    best = min(arms, key=mean)
    return best, min(arms[best], key=lambda run: validation_of(run, objective)), mean(best)


def find_folder(name: str, out: Path) -> Path:
    """The cell's or checkpoint folder that a name stands for.

    ``name`` is such a folder, a cell's hash below ``<out>/cells`` or its first 6 digits or more, or the name of an
    experiment noted in ``<out>/experiments``. UserError with the nearest names when it is none of them.
    """
    path = Path(name)
    if (path / "checkpoints").is_dir() or (path / "model.safetensors").is_file():
        return path
    if _HEX.fullmatch(name):
        cells = sorted(cell for cell in (out / "cells").glob(f"{name}*") if cell.is_dir())
        if len(cells) > 1:
            raise UserError(f"run '{name}' stands for {len(cells)} cells: {', '.join(cell.name for cell in cells)}")
        if cells:
            return cells[0]
    noted = experiment_file(name, out)
    if noted.is_file():
        return _noted_cell(noted, out)
    if path.is_dir():
        raise UserError(f"{name}: neither a cell's folder (no checkpoints/) nor a checkpoint (no model.safetensors)")
    raise _unknown_run(name, out)


def find_run(name: str, out: Path) -> Run:
    """The finished cell that a name stands for (see ``find_folder``); UserError when it did not end as it should."""
    folder = find_folder(name, out)
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder}: has no record.json of a finished run; name a cell that was trained to its end")
    if record["status"] != "done":
        raise UserError(f"{folder}: this run is {record['status']}, not done; its model is not used")
    return Run(folder, record)


def find_siblings(run: Run) -> list[Run]:
    """The finished cells beside a run that differ from it in the seed alone, itself included, by seed.

    Of the same configuration trained by other sources of altformer there may be cells too; they are none of these.
    """
    found = [
        Run(cell, record)
        for cell in sorted(run.folder.resolve().parent.iterdir())
        if (record := read_record(cell)) is not None
        and record["status"] == "done"
        and record["config"] | {"seed": 0} == run.record["config"] | {"seed": 0}
        and all(record.get(key) == run.record.get(key) for key in ("data_hash", "machine", "sources"))
    ]
    return sorted(found, key=lambda sibling: int(sibling.record["seed"]))


def find_arm(matrix: Path, arm: str, out: Path) -> list[Run]:
    """The finished cells of one arm of a matrix's folder, as its ``cells.csv`` lists them."""
    table = matrix / "cells.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [{**row, "arm": armed(row.get("arm") or "")} for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(f"{table}: cannot be read: {error.strerror}; name the folder of a matrix") from error
    arms = sorted({row["arm"] for row in rows})
    if arm not in arms:
        raise unknown_name("arm", arm, arms, str(matrix))
    return [find_run(row["cell_hash"], out) for row in rows if row["arm"] == arm and row.get("status") == "done"]


def ensemble_id(members: Sequence[Run]) -> str:
    """16 hex digits over the members, in whatever order."""
    return hashlib.sha256(" ".join(sorted(run.hash for run in members)).encode()).hexdigest()[:16]


def experiment_file(name: str, out: Path) -> Path:
    """Where the result of an experiment is noted under its name; no name leads out of that folder."""
    stem = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "experiment"
    return out / "experiments" / f"{stem}.json"


def _noted_cell(path: Path, out: Path) -> Path:
    try:
        noted = json.loads(path.read_text())
        folder, cell_hash = Path(noted["cell_folder"]), str(noted["cell_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no note of an experiment (damaged?)") from error
    here = out / "cells" / cell_hash  # first, as the folder of runs may have been copied or moved since
    found = next((cell for cell in (here, folder) if cell.is_dir()), None)
    if found is None:
        raise UserError(f"{path}: names the cell {cell_hash}, which is neither at {here} nor at {folder}")
    return found


def _unknown_run(name: str, out: Path) -> UserError:
    """Names the nearest run; all experiments, but cells only by their number, which can be large."""
    cells, experiments = ([*_names(out / part, suffix)] for part, suffix in (("cells", ""), ("experiments", ".json")))
    near = difflib.get_close_matches(name, [*experiments, *cells], n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    known = f"{len(cells)} cells; experiments: {', '.join(experiments) or 'none'}"
    forms = f"give a cell's hash ({PREFIX} digits or more), its folder, or an experiment"
    tables = sorted(out.glob(f"{glob.escape(name)}*/cells.csv"))
    hint += f"; a matrix is called so, of whose cells the hashes are in {tables[0]}" if tables else ""
    return UserError(f"unknown run '{name}'{hint} ({forms}; in {out}: {known})")


def _names(folder: Path, suffix: str) -> Iterator[str]:
    if folder.is_dir():
        yield from sorted(path.name.removesuffix(suffix) for path in folder.iterdir() if path.name.endswith(suffix))
