"""What the reports' statistics promise, held by simulation with fixed seeds; and the document has what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.power import detectable_effect
from benchmarks.simulation_page import ENDS
from benchmarks.statistics_simulation import (
    PAGE,
    SEEDS,
    coverage_of_bootstrap,
    coverage_of_difference,
    coverage_of_mean,
    equivalence,
    family_wise,
    looks,
    shown,
    tables,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("n", SEEDS)
def test_intervals_cover_as_promised(n: int) -> None:
    for kind in ("normal", "heavy-tailed"):
        assert 0.93 <= coverage_of_difference(kind, n) <= 0.97
    assert 0.93 <= coverage_of_mean("normal", n) <= 0.97
    assert coverage_of_bootstrap("normal", n) < 0.93, "the contrast: why the report has no bootstrap"


@pytest.mark.parametrize("n", SEEDS)
def test_a_matrix_without_effects_shows_one_in_at_most_one_of_twenty(n: int) -> None:
    """8 arms that share one baseline, 10,000 matrices."""
    corrected, uncorrected = family_wise("normal", n)
    assert corrected <= 0.055
    assert uncorrected > 0.15
    assert family_wise("heavy-tailed", n)[0] <= 0.055


@pytest.mark.parametrize("spread", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("n", SEEDS)
def test_arms_a_margin_apart_are_rarely_called_equivalent(n: int, spread: float) -> None:
    apart, same = equivalence("normal", n, spread)
    assert apart <= 0.055
    assert same >= apart


@pytest.mark.parametrize("arms", [1, 4, 8])
@pytest.mark.parametrize("n", SEEDS)
def test_the_detectable_effect_is_shown_as_often_as_said(n: int, arms: int) -> None:
    """Not less often: the other arms' true nulls leave Holm's first step as the bar."""
    assert shown(n, arms, detectable_effect(n, arms)) == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("seeds", [(3, 5), (3, 5, 10)])
def test_alpha_is_shared_between_looks(seeds: tuple[int, ...]) -> None:
    assert looks("normal", seeds, divided=True) <= 0.055
    assert looks("normal", seeds, divided=False) > 0.07


def test_the_document_has_the_tables_of_the_results() -> None:
    page, document = (PAGE.block_of((ROOT / path).read_text()) for path in (PAGE.page, PAGE.document))
    assert page.count("###") == 6
    assert document == page


def test_the_results_are_those_of_this_code() -> None:
    """Fixed seeds: the tables come out again. Other versions of numpy may draw otherwise; write the page anew then."""
    assert "\n\n".join(tables()) in (ROOT / PAGE.page).read_text()


def test_a_document_without_a_place_for_the_tables_is_left_alone() -> None:
    begins = PAGE.begins
    assert PAGE.filled(f"a\n{begins}\nold\n{ENDS}\nb", "new") == f"a\n{begins}\n\nnew\n\n{ENDS}\nb"
    with pytest.raises(ValueError, match="no place for the tables"):
        PAGE.filled("no markers", "new")
