"""What stopping arms early promises, held by simulation with fixed seeds; and the document has what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.early_stopping_simulation import (
    ARMS,
    PAGE,
    RULE,
    SEEDS,
    SPREAD,
    asha_stop_rates_by_position,
    differences,
    false_positives,
    remains,
    saved,
    stop_rates_by_position,
    stopped_at,
    tables,
)
from cluster.futility import is_futile

ROOT = Path(__file__).parents[2]
RUNS = 20_000
ERROR = 3 * (RULE.alpha * (1 - RULE.alpha) / RUNS) ** 0.5  # three standard errors of a rate of alpha


@pytest.mark.parametrize("effect", [-0.05, 0.0, RULE.margin])
@pytest.mark.parametrize("correlation", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("n", SEEDS)
def test_an_arm_no_worse_than_the_margin_is_stopped_at_most_as_often_as_declared(
    n: int, correlation: float, effect: float
) -> None:
    """Over all rungs."""
    assert remains(effect, n, correlation, RUNS).stopped <= RULE.alpha + ERROR


def test_an_arm_that_is_much_worse_is_stopped() -> None:
    assert remains(0.4, 3).stopped > 0.98
    assert saved([0.0] * 4 + [0.4] * 4, 3)[1] >= 0.3, "the median share of hours saved"
    assert saved([0.0] * 8, 3)[1] == 0


@pytest.mark.parametrize("n", SEEDS)
def test_what_remains_in_the_comparison_is_small_for_arms_as_good_as_the_baseline(n: int) -> None:
    """A tenth of the margin; the interval covers, and false findings are no more than nominal."""
    one = remains(0.0, n, correlation=1.0)
    assert abs(one.finished_difference) < RULE.margin / 10
    assert 0.94 < one.coverage < 0.97
    assert one.better + one.worse < 0.053
    assert one.stopped_difference > 0.0, "what is stopped looked worse than it is"


@pytest.mark.parametrize("effects", [[0.0] * 8, [0.0] * 4 + [0.1] * 4, [0.0] + [0.4] * 7])
def test_a_whole_matrix_under_the_rule_claims_no_more_than_it_may(effects: list[float]) -> None:
    """Though the number of arms that Holm corrects over depends on what the rule has stopped."""
    for n in SEEDS:
        assert false_positives(effects, n, 10_000) <= 0.055
    assert false_positives([0.0], 5, 10_000) == pytest.approx(0.05, abs=0.007), "one arm: the test's own level"


def test_arms_at_the_margin_are_not_made_much_better_by_selection() -> None:
    for n in SEEDS:
        assert remains(RULE.margin, n).finished_difference == pytest.approx(RULE.margin, abs=RULE.margin / 4)


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_the_stop_rate_is_the_same_at_every_launch_position(effect: float) -> None:
    """By chi-squared over 24 positions; arms share the baseline, which only makes the rates more alike."""
    runs = 500
    stopped = np.round(stop_rates_by_position(effect, 3, runs) * runs)
    assert stats.chi2_contingency(np.stack([stopped, runs - stopped])).pvalue > 0.01


def test_under_ashas_rule_it_is_not() -> None:
    """The contrast: 24 equal trials, the first never stopped, the last nearly three times in four."""
    rates = asha_stop_rates_by_position(runs=400)
    assert len(rates) == ARMS
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(0.73, abs=0.07)


def test_the_simulated_rule_is_the_one_that_runs() -> None:
    sample = differences(0.1, 4, runs=300)[:, :-1]
    for arm, rung in zip(sample, stopped_at(sample), strict=True):
        futile = [is_futile([*at], RULE.margin, RULE.alpha / len(RULE.rungs)) for at in arm]
        assert rung == (futile.index(True) if any(futile) else len(RULE.rungs))


def test_differences_are_as_described() -> None:
    sample = differences(0.3, 5, correlation=0.8, runs=20_000)
    assert sample.shape == (20_000, len(RULE.rungs) + 1, 5)
    assert sample.mean() == pytest.approx(0.3, abs=0.001)
    assert sample.std(axis=(0, 2)) == pytest.approx(SPREAD, rel=0.02)
    neighbours = np.corrcoef(sample[:, 0].ravel(), sample[:, 1].ravel())[0, 1]
    assert neighbours == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
def test_the_document_has_the_tables_that_were_measured() -> None:
    block = "\n\n".join(tables())
    for path in (PAGE.page, PAGE.document):
        assert PAGE.block_of((ROOT / path).read_text()) == block
