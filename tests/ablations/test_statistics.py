"""Statistics against scipy and statsmodels on fixed numbers, and by simulation of what they promise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablations.statistics import compare, compare_all, holm, summarise, t_interval, t_test

BASE = {0: 3.012, 1: 3.001, 2: 2.996, 3: 3.020, 4: 3.008}
ARMS = {
    "better": {0: 2.951, 1: 2.945, 2: 2.930, 3: 2.949, 4: 2.950},
    "worse": {0: 3.112, 1: 3.090, 2: 3.101, 3: 3.125, 4: 3.099},
    "same": {0: 3.002, 1: 3.009, 2: 2.999, 3: 3.011, 4: 3.018},
}


@pytest.mark.parametrize("values", [[3.1, 3.2], [3.0, 3.2, 3.1], [2.9, 3.0, 3.1, 3.2, 3.7]])
def test_summary_agrees_with_scipy(values: list[float]) -> None:
    found = summarise(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.n == len(values)
    assert (found.mean, found.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_a_known_interval() -> None:
    """By hand: mean 2, std 1, n 3, t(0.975, 2) = 4.302653, half-width 4.302653 / sqrt(3) = 2.484138."""
    found = summarise([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_too_few_values_have_no_interval() -> None:
    assert summarise([]) == summarise(())
    assert summarise([]).mean is None and summarise([]).n == 0
    one = summarise([3.5])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 3.5, None, None, None)


def test_comparison_agrees_with_scipy_and_statsmodels() -> None:
    found = compare_all(BASE, ARMS)
    raw = []
    for name, values in ARMS.items():
        arm, base = np.array(list(values.values())), np.array(list(BASE.values()))
        test = stats.ttest_rel(arm, base)
        raw.append(test.pvalue)
        interval = test.confidence_interval(0.95)
        one = found[name]
        assert one.seeds == (0, 1, 2, 3, 4)
        assert one.difference == pytest.approx((arm - base).mean(), rel=1e-9)
        assert (one.low, one.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert one.p == pytest.approx(test.pvalue, rel=1e-9)
        assert one.d_z == pytest.approx((arm - base).mean() / (arm - base).std(ddof=1), rel=1e-9)
    corrected = multipletests(raw, method="holm")[1]
    assert [found[name].p_holm for name in ARMS] == pytest.approx(list(corrected))
    assert {name: one.verdict for name, one in found.items()} == {
        "better": "better",
        "worse": "worse",
        "same": "no difference shown",
    }


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # by hand: 3 x 0.01; 2 x 0.03; max(0.06, 1 x 0.04)
        ([0.5, 0.9, 0.6], [1.0, 1.0, 1.0]),
    ],
)
def test_holm_by_hand(raw: list[float], corrected: list[float]) -> None:
    assert holm(np.array(raw)).tolist() == pytest.approx(corrected)


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_holm_agrees_with_statsmodels(count: int) -> None:
    p = np.random.default_rng(count).uniform(0, 0.2, (3, count)).round(2)  # with ties
    expected = [multipletests(row, method="holm")[1] for row in p]
    assert holm(p) == pytest.approx(np.array(expected))


def test_holm_decides_the_verdict() -> None:
    """One arm whose own p is below 0.05, but not among ten."""
    arm = {0: 3.028, 1: 3.010, 2: 3.020, 3: 3.025, 4: 3.031}
    assert compare_all(BASE, {"arm": arm})["arm"].verdict == "worse"
    noise = {
        f"noise {i}": {seed: value + 0.01 * math.sin(7 * i + seed) for seed, value in BASE.items()} for i in range(9)
    }
    among = compare_all(BASE, {"arm": arm, **noise})["arm"]
    assert among.p is not None and among.p_holm is not None
    assert among.p < 0.05 < among.p_holm
    assert among.verdict == "no difference shown"


SMALL: dict[str, tuple[dict[int, float], str, str]] = {
    "no seed in common": ({7: 3.0}, "not enough seeds", "no seed in common"),
    "one seed": ({0: 2.0}, "not enough seeds", "one seed in common"),
    "two seeds": ({0: 2.0, 1: 2.1}, "not enough seeds", "2 seeds in common, 3 needed"),
    "equal everywhere": (dict(BASE), "no difference shown", "equal to the baseline on every seed"),
    "equal shift": ({seed: value + 0.5 for seed, value in BASE.items()}, "not enough seeds", "no spread"),
    "equal on two seeds": ({0: BASE[0], 1: BASE[1]}, "not enough seeds", "equal to the baseline"),
}


@pytest.mark.parametrize("case", SMALL)
def test_what_allows_no_test_says_so_and_stays_out_of_holm(case: str) -> None:
    arm, verdict, note = SMALL[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no division by zero spread
        found = compare_all(BASE, {"arm": arm, "better": ARMS["better"]})
    assert (found["arm"].verdict, note in found["arm"].note) == (verdict, True)
    tested = found["arm"].p is not None
    assert found["better"].p_holm == pytest.approx((2 if tested else 1) * (found["better"].p or 0))


def test_only_common_seeds_are_compared() -> None:
    shifted = {seed: value + 0.1 + 0.001 * seed for seed, value in BASE.items() if seed != 2} | {9: 99.0}
    found = compare(BASE, shifted)
    assert found.seeds == (0, 1, 3, 4)
    assert found.difference == pytest.approx(0.1 + 0.001 * (0 + 1 + 3 + 4) / 4)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_as_promised(n: int) -> None:
    values = np.random.default_rng(n).normal(3.0, 0.02, (20_000, n))
    low, high = t_interval(values)
    coverage = np.mean((low <= 3.0) & (high >= 3.0))
    assert (
        0.945 < coverage < 0.955
    )  # 5 binomial standard errors of 20,000 runs are 0.0077; a bootstrap has 0.78 at n = 3


def test_family_wise_false_positives() -> None:
    """8 arms without effect, paired with one baseline, 5 seeds: at most 5 % of matrices may show a difference."""
    values = np.random.default_rng(0).normal(3.0, 0.02, (10_000, 9, 5))
    p = t_test(values[:, 1:] - values[:, :1])
    assert np.mean((holm(p) < 0.05).any(axis=1)) < 0.055
    assert np.mean((p < 0.05).any(axis=1)) > 0.15  # without the correction


def test_p_values_are_uniform_without_effect_and_powerful_with_one() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, (20_000, 5))
    assert np.mean(t_test(noise) < 0.05) == pytest.approx(0.05, abs=0.006)
    assert np.mean(t_test(noise + 0.08) < 0.05) > 0.99  # 4 standard deviations
