"""Statistics that are right at three to five seeds: t intervals, paired differences, Holm's correction.

The same seeds are used in every arm, so arms are compared by their per-seed differences to the baseline (paired t);
a percentile bootstrap would cover 95 % in name only at these numbers. docs/statistics.md says what each number means
and has what simulation says of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from ablations.power import ALPHA, MIN_SEEDS, critical_effect, seeds_needed

LEVEL = 0.95
MARGIN = 0.02  # equivalence, in the unit of the metric compared
WILCOXON_MIN = 6
WILCOXON_NOTE = (
    f"The signed-rank test (Wilcoxon) is given from {WILCOXON_MIN} seeds on: the smallest two-sided p value of n seeds "
    "is 2 / 2^n, 0.0625 for five, so that with fewer it cannot reach 0.05 whatever the differences are."
)

Verdict = Literal["better", "worse", "no difference shown", "not enough seeds"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and 95 % t interval of one metric over seeds; None where n is too small."""

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """An arm's per-seed differences to the baseline (arm minus baseline; errors, so below zero is better).

    ``p`` is of the two-sided paired t test, ``p_holm`` after Holm's correction over the arms of the matrix, ``d_z`` the
    mean difference in standard deviations of the differences (Cohen 1988). None where there is no such number.
    ``p_wilcoxon`` is of the two-sided exact signed-rank test, uncorrected, from six seeds on. ``p_equivalent`` is of
    two one-sided tests against a margin after Holm's correction; ``equivalent`` says whether it is below alpha.
    ``detectable`` is the smallest mean difference that these seeds, with this spread, would have shown at Holm's first
    step; ``seeds_needed`` the seeds that would show the observed one there with a power of 80 %, which is optimistic
    (see power.seeds_needed), None above a thousand.
    """

    seeds: tuple[int, ...]
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    d_z: float | None
    verdict: Verdict
    note: str = ""
    p_wilcoxon: float | None = None
    p_equivalent: float | None = None
    equivalent: bool = False
    detectable: float | None = None
    seeds_needed: int | None = None


def t_interval(values: Floats) -> tuple[Floats, Floats]:
    """Bounds of the 95 % t interval of the mean over the last axis (Student 1908); that axis needs two values."""
    n = values.shape[-1]
    half = special.stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(axis=-1, ddof=1) / math.sqrt(n)
    mean = values.mean(axis=-1)
    return mean - half, mean + half


def summarise(values: Sequence[float]) -> Summary:
    """The summary of one metric over seeds, at least none: what n does not allow is None."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Summary(0, None, None, None, None)
    if array.size == 1:
        return Summary(1, float(array[0]), None, None, None)
    low, high = t_interval(array)
    return Summary(array.size, float(array.mean()), float(array.std(ddof=1)), float(low), float(high))


def compare_all(
    baseline: Mapping[int, float],
    arms: Mapping[str, Mapping[int, float]],
    alpha: float = ALPHA,
    margin: float = MARGIN,
) -> dict[str, Comparison]:
    """Each arm's values by seed against the baseline's, with Holm's correction over all arms that could be tested.

    Difference and equivalence are two families, each corrected by itself at ``alpha``; an arm may be both worse and
    equivalent: shown to be worse by less than ``margin``.
    """
    comparisons = {name: compare(baseline, values, margin) for name, values in arms.items()}
    tested = [name for name, found in comparisons.items() if found.p is not None]
    different = holm(np.array([comparisons[name].p for name in tested], dtype=np.float64)).tolist()
    equivalent = holm(np.array([comparisons[name].p_equivalent for name in tested], dtype=np.float64)).tolist()
    for name, p_holm, p_equivalent in zip(tested, different, equivalent, strict=True):
        found = comparisons[name]
        verdict: Verdict = found.verdict
        if found.difference and p_holm < alpha:
            verdict = "better" if found.difference < 0 else "worse"
        corrected = replace(
            found, p_holm=p_holm, verdict=verdict, p_equivalent=p_equivalent, equivalent=p_equivalent < alpha
        )
        comparisons[name] = _with_power(corrected, len(tested), alpha)
    return comparisons


def compare(baseline: Mapping[int, float], arm: Mapping[int, float], margin: float = MARGIN) -> Comparison:
    """One arm against the baseline on the seeds that both have, p values uncorrected.

    ``p_holm``, the final verdict, ``equivalent`` and what the seeds could have shown come with all arms.
    """
    seeds = tuple(sorted(baseline.keys() & arm.keys()))
    differences = np.array([arm[seed] - baseline[seed] for seed in seeds], dtype=np.float64)
    n = len(seeds)
    if n < 2:
        difference = float(differences[0]) if n else None
        note = "one seed in common" if n else "no seed in common"
        return Comparison(seeds, difference, None, None, None, None, None, "not enough seeds", note)
    mean = float(differences.mean())
    if _no_spread(differences, baseline, arm):
        return _without_spread(seeds, mean)
    low, high = t_interval(differences)
    d_z = mean / float(differences.std(ddof=1))
    if n < MIN_SEEDS:
        note = f"{n} seeds in common, {MIN_SEEDS} needed"
        return Comparison(seeds, mean, float(low), float(high), None, None, d_z, "not enough seeds", note)
    return Comparison(
        seeds,
        mean,
        float(low),
        float(high),
        p=float(t_test(differences)),
        p_holm=None,
        d_z=d_z,
        verdict="no difference shown",
        p_wilcoxon=signed_rank_test(differences) if n >= WILCOXON_MIN else None,
        p_equivalent=float(equivalence_test(differences, margin)),
    )


def t_test(differences: Floats) -> Floats:
    """Two-sided p value of the paired t test that the mean difference is zero, over the last axis."""
    n = differences.shape[-1]
    t = differences.mean(axis=-1) / (differences.std(axis=-1, ddof=1) / math.sqrt(n))
    p: Floats = 2 * special.stdtr(n - 1, -np.abs(t))
    return p


def equivalence_test(differences: Floats, margin: float) -> Floats:
    """P value of two one-sided paired t tests (Schuirmann 1987) over the last axis, the larger of the two.

    Small where the mean difference is shown to lie between -margin and +margin.
    """
    n = differences.shape[-1]
    error = differences.std(axis=-1, ddof=1) / math.sqrt(n)
    p: Floats = special.stdtr(n - 1, (np.abs(differences.mean(axis=-1)) - margin) / error)
    return p


def signed_rank_test(differences: Floats) -> float:
    """Two-sided p value of the exact signed-rank test (Wilcoxon 1945); zeros are dropped, as he does, 1 where all are.

    Ties share their mean rank; only with ties among more than 13 differences is p that of the normal approximation.
    """
    from scipy import stats  # a quarter of a second, which only a comparison of many seeds has to pay

    kept = differences[differences != 0]
    return float(stats.wilcoxon(kept).pvalue) if kept.size else 1.0


def holm(p_values: Floats) -> Floats:
    """P values after Holm's step-down correction (1979) over the last axis, in the order given."""
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    scaled = np.take_along_axis(p_values, order, axis=-1) * (count - np.arange(count))
    corrected = np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0)
    return np.take_along_axis(corrected, np.argsort(order, axis=-1), axis=-1)


def _with_power(found: Comparison, arms: int, alpha: float) -> Comparison:
    """With what its seeds could have shown among so many tested arms, and how many its difference would need."""
    if found.d_z is None or found.low is None or found.high is None:  # no spread to scale by
        return found
    n = len(found.seeds)
    widened = critical_effect(n, arms, alpha) / critical_effect(n, 1, 1 - LEVEL)
    return replace(
        found,
        detectable=widened * (found.high - found.low) / 2,
        seeds_needed=seeds_needed(found.d_z, arms, alpha),
    )


def _no_spread(differences: Floats, baseline: Mapping[int, float], arm: Mapping[int, float]) -> bool:
    """Whether the differences are equal but for rounding, so that their deviation is no number to divide by."""
    scale = max(map(abs, (*baseline.values(), *arm.values())))
    return bool(np.ptp(differences) <= 1e-12 * scale)


def _without_spread(seeds: tuple[int, ...], mean: float) -> Comparison:
    """Equal differences: either the arm computes what the baseline does, or the seeds are no independent repeats."""
    if abs(mean) <= 1e-12:
        note = "equal to the baseline on every seed"
        if len(seeds) < MIN_SEEDS:
            return Comparison(seeds, 0.0, 0.0, 0.0, None, None, None, "not enough seeds", note)
        return Comparison(seeds, 0.0, 0.0, 0.0, 1.0, None, None, "no difference shown", note, p_equivalent=0.0)
    note = "the same difference on every seed: no spread to test against"
    return Comparison(seeds, mean, None, None, None, None, None, "not enough seeds", note)
