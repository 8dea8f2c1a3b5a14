"""What the statistics of a report are worth, measured by simulation: ``python -m benchmarks.statistics_simulation``.

Writes experiments/results/statistics.md, and the same tables between the markers of docs/statistics.md. Fixed seeds,
so that a second run gives the same tables; tests/benchmarks hold the rates that the reports promise.

A simulated matrix has a baseline and arms with a value by seed: an effect of the arm, an effect of the seed that all
arms share, and noise. The noise is normal, heavy-tailed (t with 3 degrees of freedom) or skewed (lognormal), scaled to
the same standard deviation. Shapes: r runs, a arms, n seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ablations.power import ALPHA, MOST_SEEDS, POWER, critical_effect, detectable_effect, seeds_needed
from ablations.statistics import equivalence_test, holm, t_interval, t_test
from benchmarks.simulation_page import SimulationPage, number_table, percent

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]

RUNS = 10_000
RESAMPLES = 1_000
SEEDS = (3, 5, 10)
ARMS = 8
SHARED = 1.0  # standard deviation of the effect of a seed, in that of the noise

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
    "skewed": lambda rng, shape: (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
}
PAGE = SimulationPage(
    "benchmarks.statistics_simulation",
    "The statistics of a report, by simulation",
    Path("experiments/results/statistics.md"),
    Path("docs/statistics.md"),
)


def differences(kind: str, n: int, arms: int, quiet_baseline: bool = False, salt: int = 0) -> Floats:
    """[r, a, n] per-seed differences of arms without effect to the one baseline.

    Correlated over the arms, which share it. A ``quiet_baseline`` has no noise, so that the differences are as skewed
    as an arm's.
    """
    rng = np.random.default_rng([list(DISTRIBUTIONS).index(kind), n, arms, salt])
    noise = DISTRIBUTIONS[kind](rng, (RUNS, 1 + arms, n))
    if quiet_baseline:
        noise[:, 0] = 0
    found = noise + SHARED * rng.normal(size=(RUNS, 1, n))
    difference: Floats = found[:, 1:] - found[:, :1]
    return difference


def coverage_of_mean(kind: str, n: int) -> float:
    """Share of runs whose t interval holds the true mean of an arm; its values have the noise only."""
    rng = np.random.default_rng([list(DISTRIBUTIONS).index(kind), n])
    return _covers(*t_interval(DISTRIBUTIONS[kind](rng, (RUNS, n))))


def coverage_of_difference(kind: str, n: int) -> float:
    """Share of runs whose paired t interval holds the true difference of an arm to the baseline."""
    return _covers(*t_interval(differences(kind, n, 1)[:, 0]))


def coverage_of_bootstrap(kind: str, n: int) -> float:
    """Share of runs whose percentile bootstrap interval (Efron 1979) holds the true difference; the contrast."""
    sample = differences(kind, n, 1)[:, 0]
    drawn = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    low, high = np.quantile(sample @ drawn.T, [0.025, 0.975], axis=-1)
    return _covers(low, high)


def family_wise(kind: str, n: int, quiet_baseline: bool = False) -> tuple[float, float]:
    """Share of matrices without any effect that show one: after Holm's correction, and without it."""
    p = t_test(differences(kind, n, ARMS, quiet_baseline))
    return _any(holm(p) < ALPHA), _any(p < ALPHA)


def equivalence(kind: str, n: int, spread: float) -> tuple[float, float]:
    """Share of single comparisons declared equivalent.

    Where the true difference is the margin (which is wrong in at most 5 %), and where it is zero. ``spread``:
    standard deviation of the differences, in margins.
    """
    sample = differences(kind, n, 1)[:, 0] / np.sqrt(2) * spread
    apart, same = (np.mean(equivalence_test(sample + shift, 1.0) < ALPHA) for shift in (1.0, 0.0))
    return float(apart), float(same)


def shown(n: int, arms: int, effect: float) -> float:
    """Share of matrices in which the one arm with an effect (d_z) is shown among others without."""
    sample = _with_effect(n, arms, effect)
    return float(np.mean((holm(t_test(sample)) < ALPHA)[:, 0] & (sample[:, 0].mean(axis=-1) > 0)))


def asked_for(n: int, arms: int, effect: float) -> list[int]:
    """Quartiles of the seeds that ``seeds_needed`` names from what n seeds observe of a true effect (d_z)."""
    sample = _with_effect(n, 1, effect)[:, 0]
    observed = np.quantile(np.abs(sample.mean(axis=-1)) / sample.std(axis=-1, ddof=1), [0.75, 0.5, 0.25])
    return [seeds_needed(float(one), arms) or MOST_SEEDS for one in observed]  # falls as the effect rises


def looks(kind: str, seeds: Sequence[int], divided: bool) -> float:
    """Share of matrices without any effect that show one at any look, each look with more seeds of the same arms.

    Alpha divided by the number of looks or not.
    """
    sample = differences(kind, max(seeds), ARMS, salt=2)
    alpha = ALPHA / len(seeds) if divided else ALPHA
    return _any(np.concatenate([holm(t_test(sample[..., :n])) < alpha for n in seeds], axis=-1))


def tables() -> Iterator[str]:
    """The page's tables in Markdown, each with a heading and what it says."""
    error = percent((ALPHA * (1 - ALPHA) / RUNS) ** 0.5, 2)
    yield f"{RUNS:,} simulated matrices for each number; a rate of 5 % has a standard error of {error}."
    for part in (_coverage, _false_positives, _equivalence, _power, _needed, _looks):
        yield from part()


def _coverage() -> Iterator[str]:
    measured = (coverage_of_mean, coverage_of_difference, coverage_of_bootstrap)
    yield "### Coverage of the 95 % intervals"
    yield "Of an arm's mean, of the paired difference to the baseline, and of its percentile bootstrap."
    yield number_table(
        ["noise", "seeds", "arm's mean", "difference", "bootstrap"],
        [(kind, n, *(percent(one(kind, n)) for one in measured)) for kind in DISTRIBUTIONS for n in SEEDS],
    )


def _false_positives() -> Iterator[str]:
    cases = [(kind, kind, False) for kind in DISTRIBUTIONS] + [("skewed, arms only", "skewed", True)]
    yield "### False positives of a whole matrix"
    yield f"{ARMS} arms that are all as good as the baseline: how often at least one is called better or worse."
    yield number_table(
        ["noise", "seeds", "with Holm's correction", "without"],
        [
            (name, n, *map(percent, family_wise(kind, n, quiet_baseline=quiet)))
            for name, kind, quiet in cases
            for n in SEEDS
        ],
    )


def _equivalence() -> Iterator[str]:
    cases = [("normal", 0.25), ("normal", 0.5), ("normal", 1.0), ("heavy-tailed", 0.5), ("skewed", 0.5)]
    yield "### Equivalence"
    yield "How often one arm is called equivalent: where it truly is a margin apart (an error), and truly the same."
    yield number_table(
        ["noise", "seeds", "sd of the differences", "a margin apart", "the same"],
        [
            (kind, n, f"{spread:g} margins", *map(percent, equivalence(kind, n, spread)))
            for kind, spread in cases
            for n in SEEDS
        ],
    )


def _power() -> Iterator[str]:
    yield "### What a number of seeds can show"
    yield (
        "In standard deviations of the per-seed differences: the smallest observed difference that is significant, and "
        f"the true one that is shown with a power of {percent(POWER, 0)}, both by formula; and the power found there."
    )
    rows = []
    for arms in (1, 4, 8):
        for n in SEEDS:
            effect = detectable_effect(n, arms)
            rows.append((arms, n, f"{critical_effect(n, arms):.2f}", f"{effect:.2f}", percent(shown(n, arms, effect))))
    yield number_table(["arms", "seeds", "significant from", "shown at", "power found"], rows)


def _needed() -> Iterator[str]:
    arms = 4
    yield "### Seeds needed, from an observed difference"
    yield (
        f"Among {arms} arms, for true effects that need so many seeds for a power of {percent(POWER, 0)}: the number "
        "that the report names from what it has observed. A quarter of all reports name the first number or fewer, "
        "half the second or fewer, three quarters the third or fewer."
    )
    yield number_table(
        ["truly needed", "observed with seeds", "quartiles of the number named"],
        [
            (needed, n, ", ".join(map(str, asked_for(n, arms, detectable_effect(needed, arms)))))
            for needed in (5, 10, 30)
            for n in SEEDS
        ],
    )


def _looks() -> Iterator[str]:
    yield "### Looking again with more seeds"
    yield f"{ARMS} arms as good as the baseline: how often at least one is called better or worse at any of the looks."
    yield number_table(
        ["looks at seeds", "alpha at every look", "alpha divided by the looks"],
        [
            (", ".join(map(str, at)), *(percent(looks("normal", at, divided)) for divided in (False, True)))
            for at in ((5,), (3, 5), (3, 5, 10), tuple(range(3, 11)))
        ],
    )


def _with_effect(n: int, arms: int, effect: float) -> Floats:
    """[r, a, n] differences of one standard deviation, of which the first arm's have an effect."""
    sample: Floats = differences("normal", n, arms, salt=1) / np.sqrt(2)
    sample[:, 0] += effect
    return sample


def _covers(low: Floats, high: Floats) -> float:
    return float(np.mean((low <= 0) & (high >= 0)))


def _any(found: npt.NDArray[np.bool_]) -> float:
    return float(found.any(axis=-1).mean())


if __name__ == "__main__":
    sys.exit(PAGE.main(__doc__, tables))
