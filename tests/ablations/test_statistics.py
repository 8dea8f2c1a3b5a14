"""Statistics against scipy and statsmodels on fixed numbers; tests/benchmarks have the simulations."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from ablations.power import critical_effect, seeds_needed
from ablations.statistics import (
    WILCOXON_NOTE,
    Comparison,
    compare,
    compare_all,
    equivalence_test,
    holm,
    signed_rank_test,
    summarise,
    t_test,
)

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


def test_p_values_are_uniform_without_effect_and_powerful_with_one() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, (20_000, 5))
    assert np.mean(t_test(noise) < 0.05) == pytest.approx(0.05, abs=0.006)
    assert np.mean(t_test(noise + 0.08) < 0.05) > 0.99  # 4 standard deviations


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def shifted(differences: list[float]) -> tuple[dict[int, float], dict[int, float]]:
    """A baseline and an arm with these per-seed differences."""
    base = {seed: 3.0 + 0.01 * math.sin(seed) for seed in range(len(differences))}
    return base, {seed: base[seed] + difference for seed, difference in enumerate(differences)}


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.2])
def test_equivalence_agrees_with_statsmodels(margin: float) -> None:
    found = compare_all(BASE, ARMS, margin=margin)
    base = np.array(list(BASE.values()))
    raw = [ttost_paired(np.array(list(values.values())), base, -margin, margin)[0] for values in ARMS.values()]
    assert [compare(BASE, values, margin).p_equivalent for values in ARMS.values()] == pytest.approx(raw)
    corrected = multipletests(raw, method="holm")[1]
    assert [one.p_equivalent for one in found.values()] == pytest.approx(list(corrected))
    assert [one.equivalent for one in found.values()] == [bool(p < 0.05) for p in corrected]


def test_equivalence_by_hand() -> None:
    """Mean 0.01, std 0.01, n 4: se 0.005; t to the bounds at 0.02 is (0.01 - 0.02) / 0.005 = -2 with 3 df: 0.0697."""
    differences = np.array([0.0, 0.01, 0.01, 0.02])
    differences = 0.01 + (differences - 0.01) * 0.01 / differences.std(ddof=1)
    assert float(equivalence_test(differences, 0.02)) == pytest.approx(0.06966, abs=1e-5)
    assert float(equivalence_test(-differences, 0.02)) == pytest.approx(0.06966, abs=1e-5)


DECIDED: dict[str, tuple[list[float], str, bool]] = {
    "no difference, and shown to be none": ([0.001, -0.002, 0.002, -0.001, 0.0005], "no difference shown", True),
    "no difference shown, nor equivalence": ([0.03, -0.04, 0.02, -0.03, 0.01], "no difference shown", False),
    "worse, but by less than the margin": ([0.0041, 0.0052, 0.0047, 0.0050, 0.0044], "worse", True),
    "better, and by more": ([-0.041, -0.052, -0.047, -0.050, -0.044], "better", False),
}


@pytest.mark.parametrize("case", DECIDED)
def test_difference_and_equivalence_are_two_questions(case: str) -> None:
    differences, verdict, equivalent = DECIDED[case]
    base, arm = shifted(differences)
    found = compare_all(base, {"arm": arm})["arm"]
    assert (found.verdict, found.equivalent) == (verdict, equivalent)


def test_equality_needs_enough_seeds_like_everything_else() -> None:
    equal = compare_all(BASE, {"arm": dict(BASE)})["arm"]
    assert (equal.equivalent, equal.p_equivalent, equal.detectable) == (True, 0.0, None)
    two = compare_all(BASE, {"arm": {0: BASE[0], 1: BASE[1]}})["arm"]
    one = compare_all(BASE, {"arm": {0: BASE[0]}})["arm"]
    apart = compare_all(BASE, {"arm": {seed: value + 0.001 for seed, value in BASE.items()}})["arm"]
    for found in (two, one, apart):  # the same difference everywhere is no sample, however small it is
        assert not found.equivalent
        numbers = (found.p_equivalent, found.p_holm, found.p_wilcoxon, found.detectable, found.seeds_needed)
        assert numbers == (None,) * 5


def test_every_look_has_its_share_of_alpha() -> None:
    """p 0.032 decides at 0.05, not at half of it; likewise equivalence with p 0.034."""
    base, arm = shifted([0.01, 0.02, 0.03, 0.005, 0.02, 0.0])
    once, twice = (compare_all(base, {"arm": arm}, alpha, 0.0246)["arm"] for alpha in (0.05, 0.025))
    assert once.p is not None and 0.025 < once.p < 0.05
    assert once.p_equivalent is not None and 0.025 < once.p_equivalent < 0.05
    assert (once.verdict, once.equivalent) == ("worse", True)
    assert (twice.verdict, twice.equivalent) == ("no difference shown", False)
    assert once.detectable is not None and twice.detectable is not None and once.detectable < twice.detectable


@pytest.mark.parametrize(
    "differences",
    [
        [0.01, 0.02, 0.03, 0.005, 0.021, 0.007],
        [0.01, -0.02, 0.03, 0.005, -0.021, 0.007, 0.012],
        [0.01, 0.02, 0.0, 0.005, -0.021, 0.007, 0.04],  # a zero
        [0.01, 0.01, -0.01, 0.02, 0.03, 0.04],  # ties
    ],
)
def test_the_signed_rank_test_is_exact(differences: list[float]) -> None:
    """Against all 2^n signs of the ranks, written out."""
    kept = np.array([one for one in differences if one])
    ranks = stats.rankdata(np.abs(kept))
    signs = np.array(np.meshgrid(*[[0, 1]] * len(kept))).reshape(len(kept), -1)
    sums, seen = ranks @ signs, ranks[kept > 0].sum()
    expected = min(1.0, 2 * min(np.mean(sums <= seen), np.mean(sums >= seen)))
    assert signed_rank_test(np.array(differences)) == pytest.approx(expected)


def test_the_signed_rank_test_is_given_where_it_can_show_anything() -> None:
    five, six = (compare_all(*_one_arm([0.1 + 0.01 * k for k in range(n)]))["arm"] for n in (5, 6))
    assert five.p_wilcoxon is None
    assert six.p_wilcoxon == pytest.approx(2 / 2**6)
    assert signed_rank_test(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(0.0625), "the note's number"
    assert "0.0625 for five" in WILCOXON_NOTE and "from 6 seeds on" in WILCOXON_NOTE
    assert signed_rank_test(np.zeros(6)) == 1.0


def _one_arm(differences: list[float]) -> tuple[dict[int, float], dict[str, dict[int, float]]]:
    base, arm = shifted(differences)
    return base, {"arm": arm}


def test_what_the_seeds_could_have_shown() -> None:
    found = compare_all(BASE, ARMS)
    for name, values in ARMS.items():
        differences = np.array(list(values.values())) - np.array(list(BASE.values()))
        sd = differences.std(ddof=1)
        assert found[name].detectable == pytest.approx(critical_effect(5, 3) * sd)
        assert found[name].seeds_needed == seeds_needed(differences.mean() / sd, 3)
    assert found["better"].seeds_needed == 3, "never fewer than can be tested"
    balanced = compare_all(*_one_arm([0.01, -0.01, 0.02, -0.02]))["arm"]
    assert balanced.detectable is not None and balanced.seeds_needed is None, "no number of seeds shows nothing"


samples = st.integers(3, 12).flatmap(
    lambda n: st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=n, max_size=n)
)


@given(samples, st.integers(1, 24))
def test_a_difference_above_the_detectable_one_passes_the_first_step_of_holm(values: list[float], arms: int) -> None:
    """Where the sample's mean is moved just above what is called detectable its p is below alpha / arms."""
    sample = np.array(values)
    assume(np.ptp(sample) > 1e-3)
    bound = critical_effect(len(sample), arms) * sample.std(ddof=1)
    for factor, passes in ((1.001, True), (0.999, False)):
        moved = sample - sample.mean() + factor * bound
        assert bool(t_test(moved) < 0.05 / arms) is passes


@given(samples, st.floats(0.001, 1))
def test_equivalence_is_the_ninety_percent_interval_within_the_margin(values: list[float], margin: float) -> None:
    """Schuirmann: the two tests at 5 % reject where the 90 % interval lies inside."""
    sample = np.array(values)
    assume(np.ptp(sample) > 1e-3)
    low, high = stats.t.interval(0.9, len(sample) - 1, sample.mean(), stats.sem(sample))
    assume(min(abs(low + margin), abs(high - margin)) > 1e-9)
    assert bool(equivalence_test(sample, margin) < 0.05) == bool(-margin < low and high < margin)


@settings(max_examples=30)  # ties among six or more make the signed-rank test slow
@given(samples)
def test_exchanging_arm_and_baseline_turns_the_sign_only(values: list[float]) -> None:
    base, arm = shifted(values)
    one, other = compare_all(base, {"x": arm})["x"], compare_all(arm, {"x": base})["x"]
    assert one.difference == pytest.approx(-(other.difference or 0), abs=1e-15)
    same = ("p", "p_holm", "p_equivalent", "p_wilcoxon", "detectable", "seeds_needed", "equivalent", "note")
    for name in same:
        own, turned = getattr(one, name), getattr(other, name)
        assert own == turned or own == pytest.approx(turned, rel=1e-9), name
    opposite = {"better": "worse", "worse": "better"}
    assert one.verdict == opposite.get(other.verdict, other.verdict)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=6), st.randoms())
def test_the_order_of_arms_changes_nothing(values: list[list[float]], random: object) -> None:
    base = by_seed([3.0, 3.1, 2.9, 3.05])
    arms = {str(place): {seed: 3 + one for seed, one in enumerate(own)} for place, own in enumerate(values)}
    names = list(arms)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert compare_all(base, {name: arms[name] for name in names}) == compare_all(base, arms)


def test_a_matrix_is_decided_as_the_simulated_ones_are() -> None:
    """The simulations use the vectorised tests; the report's verdicts on the same numbers are theirs."""
    values = np.random.default_rng(3).normal(3.0, 0.02, (200, 5, 4)) + np.array([0, 0, 0.06, 0.1, -0.1])[:, None]
    differences = values[:, 1:] - values[:, :1]
    different = holm(t_test(differences)) < 0.05
    equivalent = holm(equivalence_test(differences, 0.05)) < 0.05
    counts = {"better": 0, "worse": 0, "no difference shown": 0}
    for run in range(len(values)):
        base, *arms = (by_seed(own.tolist()) for own in values[run])
        found = compare_all(base, {str(place): own for place, own in enumerate(arms)}, margin=0.05)
        for place, one in enumerate(found.values()):
            assert (one.verdict != "no difference shown") == different[run, place]
            assert one.equivalent == equivalent[run, place]
            counts[one.verdict] += 1
    assert min(counts.values()) > 50


def test_a_comparison_has_no_number_that_was_not_computed() -> None:
    """Defaults of the optional fields: absent, not zero."""
    empty = Comparison((), None, None, None, None, None, None, "not enough seeds")
    numbers = (empty.p_wilcoxon, empty.p_equivalent, empty.detectable, empty.seeds_needed)
    assert numbers == (None,) * 4 and not empty.equivalent
