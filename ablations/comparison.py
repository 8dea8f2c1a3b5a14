"""Two cells or two arms side by side: what differs in their configuration, their numbers, and the paired statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.cells import MISSING, CellResult, by_seed
from ablations.folders import find_matrix, is_matrix, split_arm
from ablations.matrix import Matrix
from ablations.reported import read_reported
from ablations.statistics import Comparison, Summary, compare_all, summarise
from altformer.errors import UserError
from experiments.cell import read_record
from experiments.fields import flat
from experiments.runs import find_folder

SCORES = ("val_mae", "test_mae", "test_rmse", "test_mape")
COSTS = ("params", "train_seconds", "epochs", "best_epoch")


@dataclass(frozen=True)
class Side:
    """One cell, or the cells of one arm with the matrix they are of."""

    name: str
    cells: tuple[CellResult, ...]
    matrix: Matrix | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric of both sides over their seeds (one cell: n = 1), and what is shown of B minus A."""

    column: str
    a: Summary
    b: Summary
    difference: float | None  # over the seeds that both have; of cells: plainly
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SideBySide:
    """All that ``altformer compare`` says. Differences are B minus A: below zero B has the smaller error."""

    a: Side
    b: Side
    configuration: tuple[tuple[str, str, str], ...]  # field, A, B
    metrics: tuple[MetricRow, ...]
    reported: str  # the column that the statistics are of
    by_seed: Mapping[int, tuple[float, float]]  # seed -> A, B of that column
    statistics: Comparison | None  # None for two cells
    margin: float
    warnings: tuple[str, ...]


def find_side(name: str, out: Path) -> Side:
    """A cell (hash, folder or experiment) or an arm, ``<matrix folder>:<arm>``; UserError with the nearest names."""
    if (found := split_arm(name, out)) is not None:
        matrix, arm = found
        return _arm(find_matrix(matrix, out), arm)
    if is_matrix(name, out):
        raise UserError(f"{name}: the folder of a matrix; name one of its arms: {name}:ARM")
    folder = find_folder(name, out)
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder}: has no record.json of a finished run; name a cell that was run to its end")
    cell = CellResult(name, int(record["seed"]), str(record["cell_hash"]), record, folder=folder)
    return Side(f"{cell.cell_hash} (seed {cell.seed})", (cell,))


def side_by_side(a: Side, b: Side) -> SideBySide:
    """Two cells or two arms; UserError for one of each, and for an arm without any record."""
    if (a.matrix is None) != (b.matrix is None):
        raise UserError(f"compare takes two cells or two arms: {a.name} and {b.name} are one of each")
    reported = a.matrix.reported if a.matrix else "test_mae"
    margin = a.matrix.margin if a.matrix else 0.0
    first, second = _first(a), _first(b)
    common = sorted(_seeds(a) & _seeds(b))
    pair = (_of_seed(a, common[0]), _of_seed(b, common[0])) if common and a.matrix else (first, second)
    steps = [f"test_mae_{key}" for key in sorted(filter(str.isdigit, first.get("val") or {}), key=int)]
    columns = list(dict.fromkeys([reported, *SCORES, *steps, *COSTS]))
    values = {column: (_values(a, column), _values(b, column)) for column in columns}
    pairs = values[reported]
    return SideBySide(
        a=a,
        b=b,
        configuration=tuple(_differences(*pair, seed=a.matrix is None)),
        metrics=tuple(_row(column, *both, paired=a.matrix is not None) for column, both in values.items()),
        reported=reported,
        by_seed={seed: (pairs[0][seed], pairs[1][seed]) for seed in sorted(pairs[0].keys() & pairs[1].keys())},
        statistics=compare_all(pairs[0], {b.name: pairs[1]}, margin=margin)[b.name] if a.matrix else None,
        margin=margin,
        warnings=tuple(_warnings(a, b, reported)),
    )


def _arm(folder: Path, arm: str) -> Side:
    reported = read_reported(folder)
    return Side(f"{reported.matrix.name}:{arm}", tuple(reported.cells_of(arm)), reported.matrix)


def _first(side: Side) -> Mapping[str, Any]:
    record = next((cell.record for cell in side.cells if cell.record), None)
    if record is None:
        raise UserError(f"{side.name}: none of its {len(side.cells)} cells has been run")
    return record


def _seeds(side: Side) -> set[int]:
    return {cell.seed for cell in side.cells if cell.record}


def _of_seed(side: Side, seed: int) -> Mapping[str, Any]:
    return next(cell.record for cell in side.cells if cell.seed == seed and cell.record)


def _values(side: Side, column: str) -> dict[int, float]:
    """The column by seed: of an arm's finished cells, or of the cell as far as it came."""
    if side.matrix is not None:
        return by_seed(side.cells, column)
    [cell] = side.cells
    value = cell.value(column)
    return {} if value is None else {cell.seed: value}


def _row(column: str, a: Mapping[int, float], b: Mapping[int, float], *, paired: bool) -> MetricRow:
    summaries = summarise(list(a.values())), summarise(list(b.values()))
    if not paired:
        known = summaries[0].mean is not None and summaries[1].mean is not None
        return MetricRow(column, *summaries, next(iter(b.values())) - next(iter(a.values())) if known else None)
    found = compare_all(a, {"b": b})["b"]
    return MetricRow(column, *summaries, found.difference, found.low, found.high)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], *, seed: bool) -> Iterator[tuple[str, str, str]]:
    """Fields of the configuration that differ; the seed only between cells, as arms have several."""
    ours, theirs = ({path: str(value) for path, value in flat(record["config"]).items()} for record in (a, b))
    for path in dict.fromkeys([*ours, *theirs]):
        if ours.get(path) != theirs.get(path) and (seed or path != "seed"):
            yield path, ours.get(path, MISSING), theirs.get(path, MISSING)


def _warnings(a: Side, b: Side, reported: str) -> Iterator[str]:
    """What makes the numbers of the two sides those of different experiments."""
    hashes = [{cell.cell_hash for cell in side.cells} for side in (a, b)]
    if hashes[0] == hashes[1]:
        yield "A and B are the same cells."
    for what, read in _SURROUNDINGS.items():
        found = [sorted({str(read(cell.record)) for cell in side.cells if cell.record}) for side in (a, b)]
        if found[0] != found[1]:
            yield f"Different {what}: {', '.join(found[0])} and {', '.join(found[1])}."
    for side in (a, b):
        if any(cell.status == "stopped" for cell in side.cells):
            yield f"{side.name} has cells that were stopped early: what is left is a selection, and is not compared."
        if diverged := sum(cell.status == "diverged" for cell in side.cells):
            yield f"{side.name}: {diverged} of {len(side.cells)} cells diverged; the numbers are of the others."
    common = _seeds(a) & _seeds(b)
    if a.matrix and common and _seeds(a) != _seeds(b):
        yield f"Means are over each arm's own seeds, differences over the {len(common)} in common."
    if a.matrix and b.matrix and a.matrix.reported != b.matrix.reported:
        yield f"The matrices report different metrics ({a.matrix.reported}, {b.matrix.reported}); this is {reported}."


def _version(record: Mapping[str, Any]) -> Any:
    return ((record.get("provenance") or {}).get("versions") or {}).get("torch")


def _machine(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in (record.get("machine") or {}).items())


_SURROUNDINGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "data sets": lambda record: record.get("dataset"),
    "data": lambda record: str(record.get("data_hash"))[:12],
    "profiles": lambda record: record.get("profile"),
    "machines": _machine,
    "torch versions": _version,
    "sources of altformer": lambda record: str(record.get("sources"))[:12],
    "numbers of test windows": lambda record: (record.get("test") or {}).get("windows", MISSING),
}
