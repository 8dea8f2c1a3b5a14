"""A matrix in one or two sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ablations.arm_results import ArmResult, diverged, metric_name, unit_of
from ablations.matrix import Matrix
from ablations.power import MIN_SEEDS
from ablations.reports.facts import RunInfo
from ablations.reports.numbers import difference

MOST_NAMED = 8  # arms of one verdict: more are counted, and named by the table


def summary(matrix: Matrix, arms: Sequence[ArmResult], info: RunInfo) -> str:
    """Each verdict with its arms and their differences to the baseline, and the best of them."""
    reported = matrix.reported
    what = f"{metric_name(reported)} on {info.dataset}"
    unit = f" {unit}" if (unit := unit_of(reported, info.unit)) else ""
    means = {arm.name: mean for arm in arms if (mean := arm.metrics[reported].mean) is not None}
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    if baseline is None:
        return f"Lowest {what}: {min(means, key=means.__getitem__)}." if means else f"No arm has a {what} yet."
    if baseline.name not in means:
        return f"The baseline {baseline.name} has no {what} ({baseline.verdict}), so nothing can be compared."
    groups: dict[str, list[ArmResult]] = {}
    for arm in arms:
        if not arm.is_baseline:
            groups.setdefault(arm.verdict, []).append(arm)
    found = "; ".join(f"{verdict}: {_named(own, unit)}" for verdict, own in groups.items())
    planned = baseline.planned
    seeds = diverged(baseline) or ("1 seed" if planned == 1 else f"{baseline.done} of {planned} seeds")
    return (
        f"By {what}, against the baseline {baseline.name} ({means[baseline.name]:.3f}{unit}, {seeds}): "
        f"{found or 'no other arm'}.{_equivalent(matrix, arms, unit)}{_best(reported, arms, unit)}"
    )


def best_arm(reported: str, arms: Sequence[ArmResult]) -> ArmResult | None:
    """The arm with the lowest mean of the reported metric besides the baseline; None where none has one."""
    others = [(mean, arm) for arm in arms if not arm.is_baseline and (mean := arm.metrics[reported].mean) is not None]
    return min(others, key=lambda pair: pair[0])[1] if others else None


def seeds_note(arms: Sequence[ArmResult]) -> str:
    """That nothing is tested, where no arm has enough seeds in common with the baseline; else empty."""
    compared = [arm.comparison for arm in arms if arm.comparison]
    most = max((len(found.seeds) for found in compared), default=0)
    if not compared or most >= MIN_SEEDS:
        return ""
    there = "there is only one" if most == 1 else f"there are {most or 'none'}"
    return (
        f"No statistics: they need at least {MIN_SEEDS} seeds that an arm has in common with the baseline, and {there}"
        ". A difference shown here may be nothing but chance."
    )


def _equivalent(matrix: Matrix, arms: Sequence[ArmResult], unit: str) -> str:
    names = [arm.name for arm in arms if arm.comparison and arm.comparison.equivalent]
    return f" Equivalent to it within ±{matrix.margin:g}{unit}: {', '.join(names)}." if names else ""


def _best(reported: str, arms: Sequence[ArmResult], unit: str) -> str:
    best = best_arm(reported, arms)
    if best is None:
        return ""
    return f" Lowest mean of the other arms: {best.name} ({best.metrics[reported].mean:.3f}{unit}, {best.verdict})."


def _named(arms: Sequence[ArmResult], unit: str) -> str:
    """Arms of one verdict with their differences; of many the number of them and what the differences range over."""
    if len(arms) <= MOST_NAMED:
        return ", ".join(_difference(arm, unit) for arm in arms)
    known = [arm.comparison.difference for arm in arms if arm.comparison and arm.comparison.difference is not None]
    return f"{len(arms)} arms" + (f" ({min(known):+.3f} to {max(known):+.3f})" if known else "")


def _difference(arm: ArmResult, unit: str) -> str:
    """An arm with its difference to the baseline, and how many of its seeds diverged: the rest is a selection."""
    if arm.stopped is not None:
        moment = arm.stopped.difference
        return arm.name if moment is None else f"{arm.name} ({moment:+.3f}{unit} in validation by then)"
    found, lost = arm.comparison, diverged(arm)
    if found is None or found.difference is None:
        return f"{arm.name} ({lost})" if lost and arm.done else arm.name
    return f"{arm.name} ({'; '.join(filter(None, [difference(found), lost]))})"
