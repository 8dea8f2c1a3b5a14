"""Everything a report says, as plain data, computed once from the records; renderers and plots only lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablations.arm_results import ArmResult, alias_results, arm_results, unit_of
from ablations.arms import Arm
from ablations.cells import CellResult
from ablations.claim_verdicts import JudgedClaim, judge
from ablations.effects import Effect, two_factor_effects
from ablations.error_profiles import ErrorProfiles, compare_profiles
from ablations.evidence import gather
from ablations.looks import Looks, alpha_of, looks_at
from ablations.matrix import Matrix
from ablations.power import power_line
from ablations.reports.facts import (
    Facts,
    RunInfo,
    Unfinished,
    provenance,
    repeat_commands,
    timing,
    unfinished,
    warnings,
)
from ablations.reports.published import PublishedRow, beside_published
from ablations.reports.summary import best_arm, seeds_note, summary
from ablations.stopped_arms import scheduler_text
from experiments.scores_table import QUICK_NOTE


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
    rule: str = "none"  # the type of the scheduler
    objective: str = "val_mae"  # what the scheduler saw
    margin: float = 0.0  # of equivalence, in the unit of the reported metric
    looks: Looks | None = None  # None where nothing is compared
    power: str = ""  # what so many seeds can show among so many arms
    seeds_note: str = ""  # why there are no statistics, where there are too few seeds
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by arm: what was chosen for it
    tuning_note: str = ""
    profiles: ErrorProfiles | None = None  # the best arm against the baseline, by time of day and sensor


def build_report(matrix: Matrix, arms: Sequence[Arm], results: Sequence[CellResult], info: RunInfo) -> ReportData:
    """The report's content from the cells of a matrix (also those without a record), arms in the matrix's order."""
    horizons = _horizons(results, info.step_minutes)
    cells = {arm.name: [result for result in results if result.arm == arm.name] for arm in arms}
    unit = unit_of(matrix.reported, info.unit)
    found = arm_results(matrix, arms, cells, horizons, unit)
    aliases = alias_results(matrix, found, cells, unit)
    compared = {arm.name: arm.comparison for arm in (*found, *aliases) if arm.comparison}
    baseline = next((arm.name for arm in found if arm.is_baseline), None)
    best = best_arm(matrix.reported, found)
    against = {arm.name: arm.comparison for arm in found if arm.comparison}
    return ReportData(
        title=f"{matrix.heading} on {info.dataset}, {info.profile} profile",
        marker=_marker(info.profile),
        summary=summary(matrix, found, info),
        baseline=baseline,
        reported=matrix.reported,
        unit=info.unit,
        horizons=horizons,
        arms=found,
        unfinished=tuple(unfinished(result) for result in results if result.status != "done"),
        scheduler=scheduler_text(matrix, info.profile, results),
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
        rule=matrix.scheduler.type,
        objective=matrix.objective,
        margin=matrix.margin,
        looks=None if baseline is None else looks_at(matrix, info.looks, against, results, info.command),
        power="" if baseline is None else _power(matrix, found),
        seeds_note="" if baseline is None else seeds_note(found),
        tuned=info.tuned,
        tuning_note=info.tuning_note,
        profiles=compare_profiles(cells, baseline, best.name if best else None),
    )


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


def _power(matrix: Matrix, arms: Sequence[ArmResult]) -> str:
    """What the seeds of the arms that can be compared are able to show."""
    others = [arm for arm in arms if not arm.is_baseline and arm.stopped is None]
    seeds = max((len(arm.comparison.seeds) for arm in others if arm.comparison), default=0)
    seeds = seeds or max((arm.planned for arm in arms), default=0)
    return power_line(seeds, len(others), alpha_of(matrix))
