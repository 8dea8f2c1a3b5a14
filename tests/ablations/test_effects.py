"""Main effects and interactions of two factors, against numbers written out and a repeated-measures ANOVA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from ablations.arms import expand
from ablations.cells import CellResult
from ablations.effects import Effect, two_factor_effects, two_factors
from ablations.matrix import Matrix
from ablations.reports.data import build_report
from ablations.reports.facts import RunInfo
from ablations.reports.markdown import markdown
from ablations.statistics import holm


def matrix(first: list[Any], second: list[Any], **keys: Any) -> Matrix:
    names = [f"{str(a).lower()}x{str(b).lower()}" for a in first for b in second]
    values = {
        "name": "m",
        "base": "METR-LA_alternating",
        "grid": {"use_adaptive": first, "num_heads": second},
        "labels": "{use_adaptive}x{num_heads}",
        "baseline": names[0],
    }
    return Matrix.model_validate({**values, **keys})


def effects(read: Matrix, values: dict[str, list[float | None]], make_record: Any) -> tuple[Effect, ...]:
    arms = expand(read)
    cells = {
        name: [
            CellResult(name, seed, "0" * 16, None if mae is None else make_record(mae, seed))
            for seed, mae in enumerate(own)
        ]
        for name, own in values.items()
    }
    return two_factor_effects(read, arms, cells, "test_mae")


Y = {  # by seed; the second arm helps by itself, and more so where the first factor is off
    "truex1": [3.00, 3.10, 3.05, 2.98],
    "truex2": [2.90, 3.02, 2.96, 2.90],
    "falsex1": [3.20, 3.28, 3.27, 3.17],
    "falsex2": [2.95, 3.00, 3.04, 2.88],
}


def test_two_by_two_written_out(make_record: Any) -> None:
    main_a, main_b, interaction = effects(matrix([True, False], [1, 2]), Y, make_record)
    y = {name: np.array(values) for name, values in Y.items()}
    expected = {
        "main effect of use_adaptive": ((y["falsex1"] - y["truex1"]) + (y["falsex2"] - y["truex2"])) / 2,
        "main effect of num_heads": ((y["truex2"] - y["truex1"]) + (y["falsex2"] - y["falsex1"])) / 2,
        "interaction": (y["falsex2"] - y["truex2"]) - (y["falsex1"] - y["truex1"]),
    }
    p_values = [stats.ttest_1samp(values, 0).pvalue for values in expected.values()]
    corrected = holm(np.array(p_values))
    for effect, (kind, values), p in zip((main_a, main_b, interaction), expected.items(), corrected, strict=True):
        assert effect.kind == kind
        assert effect.found.difference == pytest.approx(values.mean())
        interval = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        assert (effect.found.low, effect.found.high) == pytest.approx(interval)
        assert effect.found.p_holm == pytest.approx(p)
    assert main_a.name == "false against true" and main_b.name == "2 against 1"
    assert interaction.name == "use_adaptive false with num_heads 2"
    assert (main_a.verdict, main_b.verdict, interaction.verdict) == ("worse", "better", "interaction")
    assert main_a.found.difference == pytest.approx((0.20 + 0.05 + 0.18 - 0.02 + 0.22 + 0.08 + 0.19 - 0.02) / 8)


def test_the_interaction_is_that_of_a_repeated_measures_anova(make_record: Any) -> None:
    *_, interaction = effects(matrix([True, False], [1, 2]), Y, make_record)
    rows = [
        {"seed": seed, "a": name.split("x")[0], "b": name.split("x")[1], "y": value}
        for name, values in Y.items()
        for seed, value in enumerate(values)
    ]
    anova = AnovaRM(pd.DataFrame(rows), "y", "seed", within=["a", "b"]).fit().anova_table
    values = np.array([Y["falsex2"], Y["truex2"], Y["falsex1"], Y["truex1"]])
    contrast = values[0] - values[1] - values[2] + values[3]
    t = contrast.mean() / stats.sem(contrast)
    assert anova.loc["a:b", "F Value"] == pytest.approx(t**2)
    assert anova.loc["a:b", "Pr > F"] == pytest.approx(interaction.found.p)


def test_more_levels_have_a_contrast_for_each_pair(make_record: Any) -> None:
    read = matrix([True, False], [1, 2, 4])
    rng = np.random.default_rng(0)
    values = {arm.name: list(rng.normal(3, 0.1, 3)) for arm in expand(read)}
    found = effects(read, values, make_record)
    assert [effect.name for effect in found] == [
        "false against true",
        "2 against 1",
        "4 against 1",
        "use_adaptive false with num_heads 2",
        "use_adaptive false with num_heads 4",
    ]
    y = {name: np.array(own) for name, own in values.items()}
    last = (y["falsex4"] - y["truex4"]) - (y["falsex1"] - y["truex1"])
    assert found[-1].found.difference == pytest.approx(last.mean())
    of_two = ((y["truex2"] - y["truex1"]) + (y["falsex2"] - y["falsex1"])) / 2
    assert found[1].found.difference == pytest.approx(of_two.mean())


def test_effects_are_judged_by_the_margin_and_the_looks_of_the_matrix(make_record: Any) -> None:
    """Fifty looks leave 0.001 for each."""
    once, wide, looked_at_often = (
        effects(matrix([True, False], [1, 2], **keys), Y, make_record) for keys in ({}, {"margin": 0.5}, {"looks": 50})
    )
    assert [one.found.equivalent for one in once] == [False] * 3
    assert [one.found.equivalent for one in wide] == [True] * 3
    assert all(one.found.p_holm == other.found.p_holm for one, other in zip(once, looked_at_often, strict=True))
    decided = [("no" not in one.verdict) for one in looked_at_often]
    assert decided == [(one.found.p_holm or 0) < 0.05 / 50 for one in once]
    assert decided != ["no" not in one.verdict for one in once], "fifty looks decide less than one"


def test_only_seeds_that_all_arms_have_count(make_record: Any) -> None:
    missing = {**Y, "falsex2": [2.95, 3.00, None, 2.88]}
    found = effects(matrix([True, False], [1, 2]), missing, make_record)
    assert {effect.found.seeds for effect in found} == {(0, 1, 3)}


def test_few_seeds_have_means_only(make_record: Any) -> None:
    read = matrix([True, False], [1, 2])
    results = [
        CellResult(name, seed, "0" * 16, make_record(mae, seed))
        for name, own in Y.items()
        for seed, mae in enumerate(own[:2])
    ]
    text = markdown(build_report(read, expand(read), results, RunInfo("METR-LA", "full", "altformer")), {})
    section = text.split("## Main effects and interaction")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith(("| main", "| inter"))]
    y = {name: np.array(own[:2]) for name, own in Y.items()}
    of_a, of_b = y["falsex1"] - y["truex1"], y["truex2"] - y["truex1"]
    both = y["falsex2"] - y["truex1"]
    means = [(of_a + both - of_b).mean() / 2, (of_b + both - of_a).mean() / 2, (both - of_a - of_b).mean()]
    assert [row[3].strip() for row in rows] == [f"{mean:+.3f}" for mean in means]
    for row in rows:
        assert "[" not in row[3] and row[4].strip() == "-" and "not enough seeds" in row[5]


@pytest.mark.parametrize(
    "keys",
    [
        {"arms": {"extra": {"dropout": 0.2}}},
        {"grid": {"use_adaptive": [True, False]}, "labels": None, "baseline": "use_adaptive=true"},
        {"zip": {"lr": [0.1]}},
        {"grid": [{"lr": [0.1]}, {"dropout": [0.2]}], "labels": None, "baseline": "lr=0.1"},
        {"kind": "search", "baseline": None},
    ],
)
def test_only_a_plain_grid_of_two_fields_has_effects(keys: dict[str, Any], make_record: Any) -> None:
    read = matrix([True, False], [1, 2], **keys)
    assert two_factors(read) is None
    assert effects(read, {arm.name: [3.0] for arm in expand(read)}, make_record) == ()


def test_a_grid_with_arms_left_out_has_no_effects(make_record: Any) -> None:
    """Arms that need a road graph are missing on data without one; a level's mean would be over other arms."""
    names = ["graph_bias=true,use_adaptive=true", "graph_bias=true,use_adaptive=false"]
    read = Matrix.model_validate(
        {
            "name": "m",
            "base": "simulated",
            "grid": {"graph_bias": [False, True], "use_adaptive": [True, False]},
            "baseline": "graph_bias=false,use_adaptive=true",
            "needs_graph": names,
        }
    )
    arms = [arm for arm in expand(read) if arm.name not in names]
    results = [CellResult(arm.name, seed, "0" * 16, make_record(3.0, seed)) for arm in arms for seed in range(3)]
    assert build_report(read, arms, results, RunInfo("PEMS08", "full", "c")).effects == ()
