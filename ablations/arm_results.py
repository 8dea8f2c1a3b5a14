"""The arms of a matrix as a report shows them: numbers over seeds, comparison, verdict, curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ablations.arms import Arm
from ablations.cells import CellResult, by_seed
from ablations.looks import alpha_of
from ablations.matrix import Matrix
from ablations.statistics import Comparison, Summary, compare_all, summarise
from ablations.stopped_arms import StoppedArm, stopped_arm

METRICS = ("mae", "rmse", "mape")


@dataclass(frozen=True)
class Curve:
    """Validation MAE by epoch (from 1) of one cell."""

    seed: int
    status: str
    val_mae: tuple[float, ...]


@dataclass(frozen=True)
class ArmResult:
    """One arm: its numbers over the seeds that are done, and its comparison with the baseline."""

    name: str
    is_baseline: bool
    params: int | None
    statuses: Mapping[str, int]
    metrics: Mapping[str, Summary]  # by column of cells.csv; empty summaries for an arm with stopped cells
    comparison: Comparison | None
    by_step: Mapping[str, Comparison]  # of the test MAE at each step ahead, uncorrected: for the plot, not for claims
    verdict: str
    note: str
    curves: tuple[Curve, ...]
    stopped: StoppedArm | None = None  # where it stood when a scheduler stopped it
    seeds: Mapping[int, float] = field(default_factory=dict)  # the reported metric of the cells that are done

    @property
    def done(self) -> int:
        """Number of seeds that are done."""
        return self.statuses.get("done", 0)

    @property
    def planned(self) -> int:
        """Number of seeds in the matrix."""
        return sum(self.statuses.values())

    @property
    def seeds_text(self) -> str:
        """The seeds that are done, and of how many where others are not."""
        return str(self.done) if self.done == self.planned else f"{self.done} of {self.planned}"

    @property
    def verdict_text(self) -> str:
        """The verdict with its note."""
        return f"{self.verdict} ({self.note})" if self.note else self.verdict


def column_of(metric: str, step: str) -> str:
    """The test column of a metric at a step as in the records: ``mae``, ``3`` -> ``test_mae_3``."""
    return f"test_{metric}" if step == "all" else f"test_{metric}_{step}"


def metric_name(column: str) -> str:
    """A column as readers call it: ``test_mae_3`` -> ``test MAE at step 3``."""
    part, metric, *rest = column.split("_")
    part = {"val": "validation"}.get(part, part)
    scoring = {"": "", "unmasked": " with missing readings scored"}
    step = "".join(rest)
    return f"{part} {metric.upper()}{scoring.get(step, f' at step {step}')}"


def unit_of(column: str, unit: str) -> str:
    """The unit of a column's numbers, given that of the readings; empty where there is none."""
    return "%" if "mape" in column else unit


def arm_results(
    matrix: Matrix,
    arms: Sequence[Arm],
    cells: Mapping[str, Sequence[CellResult]],
    horizons: Sequence[tuple[str, str]],
    unit: str,
) -> tuple[ArmResult, ...]:
    """Every arm over its cells, compared with the baseline where both have numbers."""
    baseline = next((arm.name for arm in arms if arm.is_baseline), None)
    steps = [step for step, _ in horizons if step != "all"]
    overall = compared(matrix, cells, baseline, matrix.reported)
    by_step = {step: compared(matrix, cells, baseline, column_of("mae", step)) for step in steps}
    scored = [column_of(metric, step) for step, _ in horizons for metric in METRICS]
    columns = [*scored, "val_mae", "test_mae_unmasked", "epochs", "best_epoch", "train_seconds", matrix.reported]
    found = []
    for arm in arms:
        own, comparison = cells[arm.name], overall.get(arm.name)
        others = None if arm.is_baseline or baseline is None else cells[baseline]
        statuses, stopped = dict(Counter(cell.status for cell in own)), stopped_arm(own, others, matrix.objective)
        params = next((params for cell in own if (params := cell.value("params")) is not None), None)
        notes = [
            _status_note(statuses),
            _stopped_note(stopped, matrix.objective, unit),
            _comparison_note(comparison, matrix, unit),
        ]
        found.append(
            ArmResult(
                name=arm.name,
                is_baseline=arm.is_baseline,
                params=None if params is None else int(params),
                statuses=statuses,
                metrics={column: summarise(list(by_seed(own, column).values())) for column in columns},
                comparison=comparison,
                by_step={step: one[arm.name] for step, one in by_step.items() if arm.name in one},
                verdict=_verdict(arm, statuses, comparison, stopped),
                note="; ".join(filter(None, notes)),
                curves=tuple(_curve(cell) for cell in own if cell.record),
                stopped=stopped,
                seeds=by_seed(own, matrix.reported),
            )
        )
    return tuple(found)


def alias_results(
    matrix: Matrix, arms: Sequence[ArmResult], cells: Mapping[str, Sequence[CellResult]], unit: str
) -> tuple[ArmResult, ...]:
    """A further row for each alias whose arms are there: the numbers of one arm, compared with another."""
    named = {arm.name: arm for arm in arms}
    found = []
    for alias, row in matrix.aliases_of(cells).items():
        pair = {alias: cells[row.of], row.against: cells[row.against]}
        comparison = compared(matrix, pair, row.against, matrix.reported).get(alias)
        both = [(name, named[name]) for name in (row.of, row.against)]
        trouble = [
            f"{name}: {note}"
            for name, arm in both
            if (note := diverged(arm) or (arm.stopped.where if arm.stopped else ""))
        ]
        notes = [f"{row.of} against {row.against}", *trouble, _comparison_note(comparison, matrix, unit)]
        found.append(
            replace(
                named[row.of],
                name=alias,
                is_baseline=False,
                comparison=comparison,
                by_step={},
                verdict=comparison.verdict if comparison else "not compared",
                note="; ".join(filter(None, notes)),
                stopped=None,
            )
        )
    return tuple(found)


def compared(
    matrix: Matrix, cells: Mapping[str, Sequence[CellResult]], baseline: str | None, column: str
) -> Mapping[str, Comparison]:
    """Every arm that has values of the column against the baseline; nothing where the baseline has none."""
    values = {name: found for name, own in cells.items() if (found := by_seed(own, column))}
    if baseline is None or baseline not in values:
        return {}
    others = {name: own for name, own in values.items() if name != baseline}
    return compare_all(values[baseline], others, alpha=alpha_of(matrix), margin=matrix.margin)


def diverged(arm: ArmResult) -> str:
    """How many seeds of an arm diverged, in words: the rest is a selection. Empty for none."""
    count = arm.statuses.get("diverged", 0)
    return f"{count} of {arm.planned} seeds diverged" if count else ""


def _verdict(arm: Arm, statuses: Mapping[str, int], comparison: Comparison | None, stopped: StoppedArm | None) -> str:
    if stopped is not None:
        return f"baseline, {stopped.where}" if arm.is_baseline else stopped.where
    if "done" not in statuses:
        return " and ".join(statuses)
    if arm.is_baseline:
        return "baseline"
    return comparison.verdict if comparison else "not compared"


def _status_note(statuses: Mapping[str, int]) -> str:
    others = {status: count for status, count in statuses.items() if status != "done"}
    return ", ".join(f"{count} of {sum(statuses.values())} seeds {status}" for status, count in others.items())


def _stopped_note(stopped: StoppedArm | None, objective: str, unit: str) -> str:
    """Where a stopped arm stood, which is no result: the rule chose the moment."""
    if stopped is None or stopped.difference is None:
        return ""
    return f"{stopped.difference:+.3f}{_after(unit)} in {metric_name(objective)} by then; not compared"


def _comparison_note(comparison: Comparison | None, matrix: Matrix, unit: str) -> str:
    if comparison is None:
        return ""
    equivalent = f"equivalent within ±{matrix.margin:g}{_after(unit)}" if comparison.equivalent else ""
    return "; ".join(filter(None, [comparison.note, equivalent]))


def _after(unit: str) -> str:
    return f" {unit}" if unit else ""


def _curve(cell: CellResult) -> Curve:
    return Curve(cell.seed, cell.status, tuple(float(epoch["val_mae"]) for epoch in cell.curve))
