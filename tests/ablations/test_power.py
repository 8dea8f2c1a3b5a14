"""Power against statsmodels, against the tests it is about, and its sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from ablations.power import MIN_SEEDS, critical_effect, detectable_effect, power, power_line, seeds_needed
from ablations.statistics import t_test


@pytest.mark.parametrize("arms", [1, 4, 24])
@pytest.mark.parametrize("seeds", [3, 4, 5, 10, 100])
@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0, 3.0])
def test_power_agrees_with_statsmodels(effect: float, seeds: int, arms: int) -> None:
    expected = TTestPower().power(effect, seeds, 0.05 / arms, alternative="two-sided")
    if math.isnan(expected):  # both tails in one formula, and one of them is no number any more
        expected = 1.0
    assert float(power(effect, seeds, arms)) == pytest.approx(expected, rel=1e-6)
    assert float(power(-effect, seeds, arms)) == pytest.approx(expected, rel=1e-6)


def test_power_of_huge_effects_is_one() -> None:
    """Where the far tail of the noncentral t is no number any more."""
    assert power(np.array([20.0, 1e4]), 5, 4) == pytest.approx([1, 1])
    assert seeds_needed(1e6, 4) == MIN_SEEDS


@pytest.mark.parametrize(("seeds", "arms", "effect"), [(3, 4, 5.12), (5, 4, 1.93), (3, 1, 2.48), (10, 1, 0.715)])
def test_critical_effects(seeds: int, arms: int, effect: float) -> None:
    """By hand: t(1 - 0.05 / 8, 2 df) = 8.860, over sqrt(3) is 5.12; likewise 4.315 / sqrt(5), 4.303 / sqrt(3)."""
    assert critical_effect(seeds, arms) == pytest.approx(effect, abs=0.005)


@given(st.integers(3, 40), st.integers(1, 30), st.sampled_from([0.05, 0.025, 0.01]))
def test_the_critical_effect_is_where_the_test_turns(seeds: int, arms: int, alpha: float) -> None:
    sample = np.random.default_rng(seeds).normal(size=seeds)
    sample = (sample - sample.mean()) / sample.std(ddof=1)
    critical = critical_effect(seeds, arms, alpha)
    assert t_test(sample + critical * 1.001) < alpha / arms < t_test(sample + critical * 0.999)


@given(st.integers(3, 60), st.integers(1, 30), st.floats(0.3, 0.99))
def test_the_detectable_effect_has_the_power_asked_for(seeds: int, arms: int, chance: float) -> None:
    effect = detectable_effect(seeds, arms, chance=chance)
    assert float(power(effect, seeds, arms)) == pytest.approx(chance, abs=5e-4)


@given(st.floats(0.15, 20), st.integers(1, 30))
def test_seeds_needed_are_the_fewest(effect: float, arms: int) -> None:
    needed = seeds_needed(effect, arms)
    assert needed is not None
    assert power(effect, needed, arms) >= 0.8
    assert needed == MIN_SEEDS or power(effect, needed - 1, arms) < 0.8


@pytest.mark.parametrize("effect", [0.0, 0.01, -0.01])
def test_no_number_of_seeds_shows_next_to_nothing(effect: float) -> None:
    assert seeds_needed(effect, 4) is None


@given(st.integers(3, 100), st.integers(1, 30))
def test_more_seeds_show_less_and_more_arms_ask_for_more(seeds: int, arms: int) -> None:
    for smallest in (critical_effect, detectable_effect):
        assert smallest(seeds + 1, arms) < smallest(seeds, arms) < smallest(seeds, arms + 1)
    assert detectable_effect(seeds, arms) > critical_effect(seeds, arms) > 0


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_too_few_seeds_show_nothing(seeds: int) -> None:
    assert critical_effect(seeds, 4) == detectable_effect(seeds, 4) == math.inf


UNIT = "the smallest mean difference that can be shown, in standard deviations of the per-seed differences, is"
LINES = {
    (
        3,
        4,
        0.05,
    ): f"With 3 seeds and 4 compared arms at alpha 0.05 {UNIT} 5.1 (1.9 with 5 seeds, 0.98 with 10); one that "
    "is truly 6.5 is shown with a probability of 80 %.",
    (
        5,
        1,
        0.025,
    ): f"With 5 seeds and 1 compared arm at alpha 0.025 {UNIT} 1.6 (0.85 with 10 seeds); one that is truly 2.1 "
    "is shown with a probability of 80 %.",
    (
        20,
        4,
        0.05,
    ): f"With 20 seeds and 4 compared arms at alpha 0.05 {UNIT} 0.62; one that is truly 0.81 is shown with a "
    "probability of 80 %.",
    (
        1,
        4,
        0.05,
    ): f"With 1 seed nothing can be tested: 3 are the least. Among 4 compared arms at alpha 0.05 {UNIT} 5.1 with "
    "3 seeds, 1.9 with 5, 0.98 with 10.",
    (
        2,
        1,
        0.05,
    ): f"With 2 seeds nothing can be tested: 3 are the least. Among 1 compared arm at alpha 0.05 {UNIT} 2.5 with "
    "3 seeds, 1.2 with 5, 0.72 with 10.",
    (5, 0, 0.05): "No arm is compared with a baseline, so nothing is tested.",
}


@pytest.mark.parametrize("case", LINES)
def test_the_sentence(case: tuple[int, int, float]) -> None:
    assert power_line(*case) == LINES[case]
