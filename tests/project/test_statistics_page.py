"""What docs/statistics.md and docs/early-stopping.md say in their own words, held to the formulas and the code."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from ablations.early_stopping import Futility
from ablations.looks import alpha_of
from ablations.matrix import make_matrix
from ablations.power import MIN_SEEDS, MOST_SEEDS, POWER
from ablations.statistics import ALPHA, LEVEL, MARGIN, compare_all
from benchmarks.early_stopping_simulation import CORRELATION

DOCS = Path(__file__).parents[2] / "docs"
STATISTICS = " ".join((DOCS / "statistics.md").read_text().split())
STOPPING = " ".join((DOCS / "early-stopping.md").read_text().split())


def inflation(seeds: int) -> float:
    """The mean of an observed d_z over the true one (Hedges 1981): 1 / J of n - 1 degrees of freedom."""
    free = seeds - 1
    return math.sqrt(free / 2) * math.gamma((free - 1) / 2) / math.gamma(free / 2)


def test_how_much_d_z_overstates() -> None:
    assert f"on average {inflation(3):.2f} times the true one ({inflation(5):.2f} times from five" in STATISTICS


def test_the_levels_and_limits_are_those_of_the_code() -> None:
    assert (ALPHA, LEVEL, MIN_SEEDS, POWER, MOST_SEEDS) == (0.05, 0.95, 3, 0.8, 1000)
    assert "alpha is 0.05 divided by the number of planned looks" in STATISTICS
    assert "with a power of 80 %" in STATISTICS and "from three to a thousand" in STATISTICS
    assert f"default {MARGIN})" in STATISTICS
    assert f"{CORRELATION} where nothing else is said" in STOPPING
    rule = Futility()
    assert (
        f"rungs: [{', '.join(f'{rung:g}' for rung in rule.rungs)}], margin: {rule.margin:g}, alpha: {rule.alpha:g}"
        in STOPPING
    )


def test_alpha_is_divided_by_the_planned_looks() -> None:
    arms = {"a": {}, "b": {"lr": 0.01}}
    assert alpha_of(make_matrix({"name": "m", "base": "simulated", "arms": arms, "baseline": "a", "looks": 2})) == 0.025


def test_an_arm_that_computes_what_the_baseline_does_is_equivalent() -> None:
    baseline = {0: 1.0, 1: 2.0, 2: 4.0}
    found = compare_all(
        baseline, {"same": dict(baseline), "shifted": {seed: value + 1 for seed, value in baseline.items()}}
    )
    assert (found["same"].p, found["same"].equivalent, found["same"].verdict) == (1.0, True, "no difference shown")
    assert (found["shifted"].p, found["shifted"].verdict) == (None, "not enough seeds")


@pytest.mark.parametrize(("page", "title"), [("statistics.md", "## Sources"), ("early-stopping.md", "## Sources")])
def test_who_is_cited_by_year_is_among_the_sources(page: str, title: str) -> None:
    text, _, sources = (DOCS / page).read_text().partition(title)
    cited = set(re.findall(r"\b([A-Z][a-z]+)(?: et al\.| and [A-Z][a-z]+)?,? \(?((?:19|20)\d\d)\b", text))
    cited |= {("Dunnett", "1955")} if page == "statistics.md" else set()
    assert cited
    entries = [" ".join(entry.split()) for entry in sources.split("\n- ")[1:]]
    for name, year in cited:
        assert any(re.search(rf"\b{name}\b.*\b{year}\b", entry) for entry in entries), f"{name} {year}"
