"""Everything a report says, as plain data, computed once from the records; renderers and plots only lay it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ablations.arms import Arm
from ablations.cells import CellResult, by_seed
from ablations.claim_verdicts import JudgedClaim, judge
from ablations.effects import Effect, two_factor_effects
from ablations.evidence import gather
from ablations.matrix import Matrix
from ablations.published import PublishedRow, beside_published
from ablations.report_facts import (
    Facts,
    RunInfo,
    Unfinished,
    provenance,
    repeat_commands,
    scheduler_text,
    timing,
    unfinished,
    warnings,
)
from ablations.statistics import Comparison, Summary, compare_all, summarise

QUICK_NOTE = "quick profile: not comparable with published numbers"
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

    @property
    def done(self) -> int:
        """Number of seeds that are done."""
        return self.statuses.get("done", 0)

    @property
    def planned(self) -> int:
        """Number of seeds in the matrix."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class ReportData:
    """The content of a report. All texts are plain and unescaped."""

    title: str
    marker: str  # a warning that stands beside every number; empty in the full profile
    summary: str
    baseline: str | None
    reported: str  # the column that arms are compared by
    unit: str
    horizons: tuple[tuple[str, str], ...]  # (step as in the records, label), last ("all", ...)
    arms: tuple[ArmResult, ...]
    unfinished: tuple[Unfinished, ...]
    scheduler: str
    warnings: tuple[str, ...]
    timing: Facts
    provenance: Facts
    repeat: tuple[tuple[str, int, str], ...]  # arm, seed, command
    aliases: tuple[ArmResult, ...] = ()  # further rows: an arm's numbers, compared with another arm than the baseline
    claims: tuple[JudgedClaim, ...] = ()
    effects: tuple[Effect, ...] = ()
    published: tuple[PublishedRow, ...] = ()


def build_report(matrix: Matrix, arms: Sequence[Arm], results: Sequence[CellResult], info: RunInfo) -> ReportData:
    """The report's content from the cells of a matrix (also those without a record), arms in the matrix's order."""
    horizons = _horizons(results, info.step_minutes)
    cells = {arm.name: [result for result in results if result.arm == arm.name] for arm in arms}
    found = _arm_results(matrix, arms, cells, horizons)
    aliases = _alias_results(matrix, found, cells)
    compared = {arm.name: arm.comparison for arm in (*found, *aliases) if arm.comparison}
    return ReportData(
        title=f"{matrix.title or matrix.name} on {info.dataset}, {info.profile} profile",
        marker=_marker(info.profile),
        summary=_summary(matrix.reported, found, info),
        baseline=next((arm.name for arm in found if arm.is_baseline), None),
        reported=matrix.reported,
        unit=info.unit,
        horizons=horizons,
        arms=found,
        unfinished=tuple(unfinished(result) for result in results if result.status != "done"),
        scheduler=scheduler_text(matrix, info.profile),
        warnings=(*filter(None, [matrix.note]), *info.notes, *warnings(results)),
        timing=timing(results, info),
        provenance=provenance(results, info),
        repeat=repeat_commands(results),
        aliases=aliases,
        claims=judge(matrix.claims, gather(matrix, arms, cells, compared, info)),
        effects=two_factor_effects(matrix, arms, cells, matrix.reported),
        published=beside_published(
            matrix.published.get(info.dataset, {}),
            matrix.baseline,
            [step for step, _ in horizons],
            {arm.name: arm.metrics for arm in found},
            {arm.name: arm.params for arm in found},
        ),
    )


def column_of(metric: str, step: str) -> str:
    """The test column of a metric at a step as in the records: ``mae``, ``3`` -> ``test_mae_3``."""
    return f"test_{metric}" if step == "all" else f"test_{metric}_{step}"


def metric_name(column: str) -> str:
    """A column as readers call it: ``test_mae_3`` -> ``test MAE at step 3``."""
    part, metric, *rest = column.split("_")
    scoring = {"": "", "unmasked": " with missing readings scored"}
    step = "".join(rest)
    return f"{part} {metric.upper()}{scoring.get(step, f' at step {step}')}"


def _marker(profile: str) -> str:
    if profile == "full":
        return ""
    return QUICK_NOTE if profile == "quick" else f"{profile} profile: check its settings before comparing with others"


def _horizons(results: Iterable[CellResult], step_minutes: int | None) -> tuple[tuple[str, str], ...]:
    scores = [result.record.get("test") or result.record.get("val") or {} for result in results if result.record]
    steps = sorted({int(key) for score in scores for key in score if key.isdigit()})
    return (*((str(step), _ahead(step, step_minutes)) for step in steps), ("all", "all steps"))


def _ahead(step: int, step_minutes: int | None) -> str:
    if step_minutes is None:
        return f"step {step}"
    minutes = step * step_minutes
    return f"{minutes} min" if minutes <= 120 else f"{minutes / 60:g} h"


def _arm_results(
    matrix: Matrix, arms: Sequence[Arm], cells: Mapping[str, Sequence[CellResult]], horizons: Sequence[tuple[str, str]]
) -> tuple[ArmResult, ...]:
    baseline = next((arm.name for arm in arms if arm.is_baseline), None)
    steps = [step for step, _ in horizons if step != "all"]
    overall = _compared(cells, baseline, matrix.reported)
    by_step = {step: _compared(cells, baseline, column_of("mae", step)) for step in steps}
    scored = [column_of(metric, step) for step, _ in horizons for metric in METRICS]
    columns = [*scored, "val_mae", "test_mae_unmasked", "epochs", "best_epoch", "train_seconds", matrix.reported]
    return tuple(
        _arm_result(
            arm,
            cells[arm.name],
            overall.get(arm.name),
            {step: found[arm.name] for step, found in by_step.items() if arm.name in found},
            columns,
        )
        for arm in arms
    )


def _alias_results(
    matrix: Matrix, arms: Sequence[ArmResult], cells: Mapping[str, Sequence[CellResult]]
) -> tuple[ArmResult, ...]:
    """A further row for each alias whose arms are there: the numbers of one arm, compared with another."""
    named = {arm.name: arm for arm in arms}
    found = []
    for alias, row in matrix.aliases_of(cells).items():
        compared = _compared({alias: cells[row.of], row.against: cells[row.against]}, row.against, matrix.reported)
        comparison = compared.get(alias)
        diverged = [f"{name}: {note}" for name in (row.of, row.against) if (note := _diverged(named[name]))]
        notes = [f"{row.of} against {row.against}", *diverged, comparison.note if comparison else ""]
        found.append(
            replace(
                named[row.of],
                name=alias,
                is_baseline=False,
                comparison=comparison,
                by_step={},
                verdict=comparison.verdict if comparison else "not compared",
                note="; ".join(filter(None, notes)),
            )
        )
    return tuple(found)


def _compared(cells: Mapping[str, Sequence[CellResult]], baseline: str | None, column: str) -> Mapping[str, Comparison]:
    """Every arm that has values of the column against the baseline; nothing where the baseline has none."""
    values = {name: found for name, own in cells.items() if (found := by_seed(own, column))}
    if baseline is None or baseline not in values:
        return {}
    return compare_all(values[baseline], {name: own for name, own in values.items() if name != baseline})


def _arm_result(
    arm: Arm,
    cells: Sequence[CellResult],
    comparison: Comparison | None,
    by_step: Mapping[str, Comparison],
    columns: Sequence[str],
) -> ArmResult:
    statuses = dict(Counter(cell.status for cell in cells))
    params = next((params for cell in cells if (params := cell.value("params")) is not None), None)
    return ArmResult(
        name=arm.name,
        is_baseline=arm.is_baseline,
        params=None if params is None else int(params),
        statuses=statuses,
        metrics={column: summarise(list(by_seed(cells, column).values())) for column in columns},
        comparison=comparison,
        by_step=by_step,
        verdict=_verdict(arm, statuses, comparison),
        note="; ".join(filter(None, [_status_note(statuses), comparison.note if comparison else ""])),
        curves=tuple(_curve(cell) for cell in cells if cell.record),
    )


def _verdict(arm: Arm, statuses: Mapping[str, int], comparison: Comparison | None) -> str:
    if "stopped" in statuses:
        return "baseline, stopped early" if arm.is_baseline else "stopped early, not compared"
    if "done" not in statuses:
        return " and ".join(statuses)
    if arm.is_baseline:
        return "baseline"
    return comparison.verdict if comparison else "not compared"


def _status_note(statuses: Mapping[str, int]) -> str:
    others = {status: count for status, count in statuses.items() if status != "done"}
    return ", ".join(f"{count} of {sum(statuses.values())} seeds {status}" for status, count in others.items())


def _curve(cell: CellResult) -> Curve:
    epochs = (cell.record or {}).get("curve") or []
    return Curve(cell.seed, cell.status, tuple(float(epoch["val_mae"]) for epoch in epochs))


def _summary(reported: str, arms: Sequence[ArmResult], info: RunInfo) -> str:
    what = f"{metric_name(reported)} on {info.dataset}"
    means = {arm.name: mean for arm in arms if (mean := arm.metrics[reported].mean) is not None}
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    if baseline is None:
        return f"Lowest {what}: {min(means, key=means.__getitem__)}." if means else f"No arm has a {what} yet."
    if baseline.name not in means:
        return f"The baseline {baseline.name} has no {what} ({baseline.verdict}), so nothing can be compared."
    groups: dict[str, list[str]] = {}
    for arm in arms:
        if not arm.is_baseline:
            groups.setdefault(arm.verdict, []).append(_difference(arm))
    found = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in groups.items())
    unit = f" {info.unit}" if info.unit else ""
    seeds = _diverged(baseline) or f"{baseline.done} of {baseline.planned} seeds"
    return (
        f"By {what}, against the baseline {baseline.name} ({means[baseline.name]:.3f}{unit}, {seeds}): "
        f"{found or 'no other arm'}."
    )


def _difference(arm: ArmResult) -> str:
    """An arm with its difference to the baseline, and how many of its seeds diverged: the rest is a selection."""
    found, diverged = arm.comparison, _diverged(arm)
    if found is None or found.difference is None:
        return f"{arm.name} ({diverged})" if diverged and arm.done else arm.name
    bounds = "" if found.low is None or found.high is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{arm.name} ({'; '.join(filter(None, [f'{found.difference:+.3f}{bounds}', diverged]))})"


def _diverged(arm: ArmResult) -> str:
    count = arm.statuses.get("diverged", 0)
    return f"{count} of {arm.planned} seeds diverged" if count else ""
