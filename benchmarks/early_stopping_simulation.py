"""What stopping arms early does to a comparison, by simulation: ``python -m benchmarks.early_stopping_simulation``.

Writes experiments/results/early_stopping.md, and the same tables between the markers of docs/early-stopping.md. Fixed
seeds, so that a second run gives the same tables; tests/benchmarks hold what the rule promises.

A simulated arm has, for each seed, a difference to the baseline at both rungs and at the end: a true one, the same at
all three, and normal noise whose neighbours are correlated. Lower is better. Shapes: r runs, k rungs, n seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
from ray.tune.schedulers import ASHAScheduler
from scipy import special

from ablations.early_stopping import Futility
from ablations.power import ALPHA
from ablations.statistics import holm, t_interval, t_test
from benchmarks.simulation_page import SimulationPage, number_table, percent
from cluster.futility import Contest, Race

Floats = npt.NDArray[np.float64]

RULE = Futility()
SEEDS = (3, 5, 10)
RUNS = 20_000
MATRICES = 2_000  # simulated ones, where a whole matrix is needed
SPREAD = 0.05  # standard deviation of the per-seed differences, in the metric's unit; the margin is 0.02
CORRELATION = 0.8  # of the differences at one rung with those at the next, and at the end
ARMS = 24
PAGE = SimulationPage(
    "benchmarks.early_stopping_simulation",
    "Early stopping of comparisons, by simulation",
    Path("experiments/results/early_stopping.md"),
    Path("docs/early-stopping.md"),
)


def differences(effect: float, n: int, correlation: float = CORRELATION, runs: int = RUNS) -> Floats:
    """[r, k + 1, n] differences to the baseline at the rungs and, last, at the end."""
    rng = np.random.default_rng([round(1000 * (1 + effect)), n, round(100 * correlation)])
    noise = rng.normal(size=(runs, len(RULE.rungs) + 1, n))
    for step in range(1, noise.shape[1]):
        noise[:, step] = correlation * noise[:, step - 1] + np.sqrt(1 - correlation**2) * noise[:, step]
    found: Floats = effect + SPREAD * noise
    return found


def stopped_at(at_rungs: Floats, margin: float = RULE.margin) -> npt.NDArray[np.int64]:
    """[r] the rung (0, 1, ...) at which the rule stops an arm with these differences [r, k, n]; k where it never does.

    cluster.futility.is_futile for many arms at once.
    """
    rungs, n = at_rungs.shape[-2:]
    error = at_rungs.std(axis=-1, ddof=1) / np.sqrt(n)
    futile = at_rungs.mean(axis=-1) - margin > special.stdtrit(n - 1, 1 - RULE.alpha / rungs) * error
    rung: npt.NDArray[np.int64] = np.where(futile.any(axis=-1), futile.argmax(axis=-1), rungs)
    return rung


@dataclass(frozen=True)
class Remains:
    """What a report says of an arm, on average: shares of all runs, means in the metric's unit (NaN: of none)."""

    stopped: float
    finished_difference: float  # mean of the final differences of arms that finish
    stopped_difference: float  # mean of the differences at the rung where arms stop
    coverage: float  # of the 95 % interval, of arms that finish
    better: float
    worse: float  # called so at the end, by a test at 5 %


def remains(effect: float, n: int, correlation: float = CORRELATION, runs: int = RUNS) -> Remains:
    """One arm with a true difference, run under the rule and compared at the end if it finishes."""
    found = differences(effect, n, correlation, runs)
    rung = stopped_at(found[:, :-1])
    finished = rung == len(RULE.rungs)
    ended, left = found[finished, -1], np.take_along_axis(found.mean(axis=-1), rung[:, None], axis=1)[~finished]
    low, high = t_interval(ended)
    shown = t_test(ended) < ALPHA
    return Remains(
        stopped=float(np.mean(~finished)),
        finished_difference=float(ended.mean()) if len(ended) else np.nan,
        stopped_difference=float(left.mean()) if len(left) else np.nan,
        coverage=float(np.mean((low <= effect) & (effect <= high))) if len(ended) else np.nan,
        better=float(np.sum(shown & (ended.mean(axis=-1) < 0))) / runs,
        worse=float(np.sum(shown & (ended.mean(axis=-1) > 0))) / runs,
    )


def false_positives(effects: Sequence[float], n: int, runs: int = RUNS) -> float:
    """How often at least one of the arms without a difference is called better or worse.

    By Holm's correction over the arms that the rule has let through. All arms share one baseline.
    """
    rng = np.random.default_rng([n, *(round(1000 * effect) for effect in effects)])
    found = rng.normal(scale=SPREAD / np.sqrt(2), size=(runs, 1 + len(effects), len(RULE.rungs) + 1, n))
    for step in range(1, found.shape[2]):
        found[:, :, step] = CORRELATION * found[:, :, step - 1] + np.sqrt(1 - CORRELATION**2) * found[:, :, step]
    arms = found[:, 1:] - found[:, :1] + np.reshape(effects, (-1, 1, 1))
    stopped = stopped_at(arms[:, :, :-1]) < len(RULE.rungs)
    # a stopped arm is not tested: with p = 1 it would be, so each number of tested arms is corrected by itself
    p, claimed = np.where(stopped, 1.0, t_test(arms[:, :, -1])), np.zeros(runs, dtype=bool)
    for count in range(1, len(effects) + 1):
        some = np.flatnonzero((~stopped).sum(axis=1) == count)
        tested = np.argsort(stopped[some], axis=1, kind="stable")[:, :count]
        shown = holm(np.take_along_axis(p[some], tested, axis=1)) < ALPHA
        claimed[some] = (shown & (np.asarray(effects)[tested] == 0)).any(axis=1)
    return float(claimed.mean())


def saved(effects: Sequence[float], n: int, runs: int = MATRICES) -> list[float]:
    """Quartiles of the share of a matrix's epochs that are not trained, with arms of these effects and a baseline."""
    shares = np.array([*RULE.rungs, 1.0])
    trained = [shares[stopped_at(differences(effect, n, runs=runs)[:, :-1])] for effect in effects]
    return [float(one) for one in np.quantile(1 - (1 + sum(trained)) / (1 + len(effects)), [0.25, 0.5, 0.75])]


def stop_rates_by_position(effect: float, n: int, runs: int = MATRICES) -> Floats:
    """[a] how often the arm launched first, second, ... of 24 equal ones is stopped at the first rung.

    By the Race itself: every cell reports when it gets there, arms launched earlier sooner.
    """
    rng = np.random.default_rng([n, ARMS])
    keys = {arm: {seed: f"{arm}/{seed}" for seed in range(n)} for arm in ["base", *map(str, range(ARMS))]}
    arms = {arm: cells for arm, cells in keys.items() if arm != "base"}
    stopped = np.zeros(ARMS)
    for _ in range(runs):
        race = Race([Contest(keys["base"], arms, (1,), RULE.margin, RULE.alpha)], {})
        values = {key: SPREAD * rng.normal() + (arm != "base") * effect for arm in keys for key in keys[arm].values()}
        when = {key: place + 4 * rng.random() for place, arm in enumerate(keys) for key in keys[arm].values()}
        for key in sorted(when, key=when.__getitem__):
            race.reported(key, 1, values[key])
        stopped += [race.decision(f"{arm}/0") == "stop" for arm in range(ARMS)]
    return stopped / runs


def asha_stop_rates_by_position(runs: int = MATRICES) -> Floats:
    """[a] the same of Ray's ASHA with its default factor 4, one seed: equal trials reach the first rung in order."""
    rng = np.random.default_rng(ARMS)
    trials = [SimpleNamespace(trial_id=str(place)) for place in range(ARMS)]
    stopped = np.zeros(ARMS)
    for _ in range(runs):
        asha = ASHAScheduler(time_attr="t", metric="e", mode="min", max_t=16, grace_period=1, reduction_factor=4)
        for trial in trials:
            asha.on_trial_add(None, trial)
        stopped += [asha.on_trial_result(None, trial, {"t": 1, "e": rng.normal()}) == "STOP" for trial in trials]
    return stopped / runs


def tables() -> Iterator[str]:
    """The page's tables in Markdown, each with a heading and what it says."""
    yield (
        f"Differences in the metric's unit, for instance mph; standard deviation of the per-seed differences {SPREAD}; "
        f"the default rule: rungs at {', '.join(f'{100 * share:g} %' for share in RULE.rungs)} of the epochs, margin "
        f"{RULE.margin}, alpha {RULE.alpha} over all rungs. {RUNS:,} simulated arms for each number where "
        "nothing else is said."
    )
    for part in (_stopped, _remains, _false_positives, _saved, _positions):
        yield from part()


def _stopped() -> Iterator[str]:
    effects = (-0.05, 0.0, RULE.margin, 0.05, 0.1, 0.2, 0.4)
    yield "### How often an arm is stopped"
    yield f"By its true difference to the baseline. Up to the margin ({RULE.margin}) at most {percent(RULE.alpha, 0)}."
    rows = [(f"{effect:+g}", *(percent(remains(effect, n).stopped) for n in SEEDS)) for effect in effects]
    yield number_table(["true difference", *(f"{n} seeds" for n in SEEDS)], rows)


def _remains() -> Iterator[str]:
    yield "### What stopping leaves in the comparison"
    yield (
        "Means of what is reported, so that an estimate without selection would show the true difference; the coverage "
        "of the 95 % interval and the rates of *better* and *worse* (one arm, 5 %) are those of the final test. The "
        "correlation is that of the differences at a rung with those at the next; 1 is the worst case."
    )
    rows = []
    for correlation in (CORRELATION, 1.0):
        for effect in (0.0, 0.05, 0.1):
            for n in SEEDS:
                one = remains(effect, n, correlation)
                means = (one.finished_difference, one.stopped_difference)
                texts = ("-" if np.isnan(mean) else f"{mean:+.3f}" for mean in means)
                shares = map(percent, (one.coverage, one.better, one.worse))
                rows.append((f"{correlation:g}", f"{effect:+g}", n, percent(one.stopped), *texts, *shares))
    header = ["correlation", "true difference", "seeds", "stopped", "mean of those that finish"]
    yield number_table([*header, "mean where stopped", "coverage", "better", "worse"], rows)


def _false_positives() -> Iterator[str]:
    yield "### False positives of a whole matrix under the rule"
    yield (
        "How often at least one arm that is as good as the baseline is called better or worse, with Holm's correction "
        f"over the arms that finish; {RUNS:,} simulated matrices whose arms share one baseline."
    )
    mixes = {
        "8 arms as good as the baseline": [0.0] * 8,
        "4 as good, 4 worse by 0.1": [0.0] * 4 + [0.1] * 4,
        "4 as good, 4 worse by 0.4": [0.0] * 4 + [0.4] * 4,
        "1 as good, 7 worse by 0.1": [0.0] + [0.1] * 7,
        "1 as good, 7 worse by 0.4": [0.0] + [0.4] * 7,
    }
    rows = [(name, *(percent(false_positives(mix, n)) for n in SEEDS)) for name, mix in mixes.items()]
    yield number_table(["arms", *(f"{n} seeds" for n in SEEDS)], rows)


def _saved() -> Iterator[str]:
    mixes = {
        "8 arms as good as the baseline": [0.0] * 8,
        "4 as good, 4 worse by 0.1": [0.0] * 4 + [0.1] * 4,
        "4 as good, 4 worse by 0.4": [0.0] * 4 + [0.4] * 4,
        "8 worse by 0.4": [0.4] * 8,
    }
    yield "### Hours saved"
    yield (
        f"Share of a matrix's epochs that need no training, over {MATRICES:,} simulated matrices: lower quartile, "
        "median, upper."
    )
    rows = [(name, n, *map(percent, saved(mix, n))) for name, mix in mixes.items() for n in SEEDS]
    yield number_table(["arms", "seeds", "lower quartile", "median", "upper quartile"], rows)


def _positions() -> Iterator[str]:
    error = (0.4 * 0.6 / MATRICES) ** 0.5
    yield "### Does it matter who was launched first?"
    yield (
        f"{ARMS} equal arms; how often the one launched at a place is stopped at the first rung. Ours: arms worse than "
        "the baseline by 0.1, three seeds, so that there is something to stop. Ray's ASHA: one seed, factor 4. "
        f"{MATRICES:,} simulated matrices; a rate of 40 % has a standard error of {percent(error)}."
    )
    ours, asha = stop_rates_by_position(0.1, 3), asha_stop_rates_by_position()
    places = {"first": 0, "second": 1, "twelfth": 11, "last": ARMS - 1}
    rows = [(place, percent(ours[at], 0), percent(asha[at], 0)) for place, at in places.items()]
    yield number_table(["launched", "futility", "Ray's ASHA"], rows)


if __name__ == "__main__":
    sys.exit(PAGE.main(__doc__, tables))
