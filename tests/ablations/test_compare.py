"""Two cells or two arms side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablations.comparison import find_side, side_by_side
from altformer.errors import UserError
from experiments.cli import main
from experiments.fields import flat

LOW, HIGH = [3.1, 3.2, 3.0], [3.0, 3.15, 2.8]


def found(folder: Path, a: str, b: str) -> Any:
    out = folder.parent
    return side_by_side(find_side(a, out), find_side(b, out))


def hash_of(folder: Path, arm: str, seed: int) -> str:
    cells = json.loads((folder / "plan.json").read_text())["cells"]
    return next(cell["cell_hash"] for cell in cells if (cell["arm"], cell["seed"]) == (arm, seed))


@pytest.mark.parametrize("matrix", ["rates", "rates-wave", "{folder}"])
def test_arms_are_compared_seed_by_seed(matrix: str, make_folder: Any) -> None:
    folder = make_folder(low=LOW, high=HIGH)
    matrix = matrix.format(folder=folder)
    result = found(folder, f"{matrix}:low", f"{matrix}:high")
    assert result.configuration == (("training.lr", "0.001", "0.003"),)
    assert result.by_seed == dict(enumerate(zip(LOW, HIGH, strict=True)))
    expected = stats.ttest_rel(HIGH, LOW)
    low, high = expected.confidence_interval(0.95)
    assert result.statistics.p == pytest.approx(expected.pvalue)
    assert (result.statistics.low, result.statistics.high) == pytest.approx((low, high))
    assert result.statistics.verdict == "no difference shown" and not result.warnings
    rows = {row.column: row for row in result.metrics}
    assert rows["test_mae"].difference == pytest.approx(np.mean(HIGH) - np.mean(LOW))
    assert rows["test_mae_12"].difference == pytest.approx(1.17 * (np.mean(HIGH) - np.mean(LOW)))


def test_what_is_printed(make_folder: Any, capsys: Any) -> None:
    folder = make_folder(low=LOW, high=HIGH)
    assert main(["compare", "rates:low", "rates:high", "--out", str(folder.parent)]) == 0
    printed = capsys.readouterr().out
    for text in ("training.lr", "Seed by seed", "not corrected", "d_z = -1.5", "margin ±0.02", "no difference shown"):
        assert text in printed


def test_the_json_has_the_same(make_folder: Any, capsys: Any) -> None:
    folder = make_folder(low=LOW, high=[3.0, None, {"status": "diverged"}])
    assert main(["compare", "rates:low", "rates:high", "--out", str(folder.parent), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["configuration"] == {"training.lr": {"a": "0.001", "b": "0.003"}}
    assert printed["by_seed"] == {"0": {"a": 3.1, "b": 3.0}}
    assert printed["statistics"]["verdict"] == "not enough seeds" and printed["statistics"]["p"] is None
    assert printed["metrics"]["test_mae"]["b"]["std"] is None
    assert any("1 of 3 cells diverged" in warning for warning in printed["warnings"])


@pytest.mark.parametrize(
    ("high", "text"),
    [
        ([3.0], "No statistics: one seed in common, 3 needed."),
        ([None, None, None, 1.0], "none of its 3 cells has been run"),
        ([3.0, 3.15], "2 seeds in common, 3 needed"),
        ([{"status": "stopped"}] * 3, "stopped early"),
    ],
)
def test_too_few_seeds_are_no_statistics(high: Any, text: str, make_folder: Any, capsys: Any) -> None:
    folder = make_folder(low=LOW, high=high)
    main(["compare", "rates:low", "rates:high", "--out", str(folder.parent)])
    captured = capsys.readouterr()
    assert text in captured.out + captured.err and "p =" not in captured.out


def test_unequal_seeds_are_told(make_folder: Any) -> None:
    warned = "Means are over each arm's own seeds, differences over the 2 in common."
    assert warned in found(make_folder(low=LOW, high=[3.0, 3.15, None]), "rates:low", "rates:high").warnings


def test_equal_seeds_are_no_warning(make_folder: Any) -> None:
    assert found(make_folder(low=LOW, high=HIGH), "rates:low", "rates:high").warnings == ()


def test_cells_are_compared_without_statistics(make_folder: Any, capsys: Any) -> None:
    folder = make_folder(low=LOW, high=HIGH)
    first, second = (folder.parent / "cells" / hash_of(folder, *at) for at in (("low", 0), ("high", 1)))
    for cell in (first, second):
        (cell / "checkpoints").mkdir()
    result = found(folder, first.name[:8], str(second))
    assert {field for field, *_ in result.configuration} == {"training.lr", "seed"}
    assert result.statistics is None
    assert {row.column: row.difference for row in result.metrics}["test_mae"] == pytest.approx(0.05)
    assert main(["compare", first.name, second.name, "--out", str(folder.parent)]) == 0
    assert "Seed by seed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data_hash": "e" * 64}, "Different data: dddddddddddd and eeeeeeeeeeee."),
        ({"profile": "full"}, "Different profiles: quick and full."),
        ({"machine": {"device": "cuda", "threads": 1, "workers": 1}}, "Different machines"),
    ],
)
def test_what_makes_numbers_incomparable_is_said(changes: Any, text: str, make_folder: Any) -> None:
    folder = make_folder(low=LOW, high=[{"mae": mae, **changes} for mae in HIGH])
    assert any(text in warning for warning in found(folder, "rates:low", "rates:high").warnings)


def test_an_arm_beside_itself_differs_in_nothing(make_folder: Any) -> None:
    folder = make_folder()
    result = found(folder, "rates:low", "rates:low")
    assert not result.configuration and "A and B are the same cells." in result.warnings
    assert result.statistics.difference == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rates:lw", "did you mean 'low'"),
        ("rtes:low", "unknown matrix 'rtes'"),
        ("rates", "name one of its arms: rates:ARM"),
        ("{folder}", "name one of its arms"),
        ("abcdef", "unknown run 'abcdef'"),
        ("{cell}", "one of each"),
    ],
)
def test_mistakes_are_named(name: str, message: str, make_folder: Any, capsys: Any) -> None:
    folder = make_folder()
    cell = folder.parent / "cells" / hash_of(folder, "low", 0)
    (cell / "checkpoints").mkdir()
    name = name.format(folder=folder, cell=cell)
    assert main(["compare", "rates:low", name, "--out", str(folder.parent)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_names_with_colons_are_arms_too(make_folder: Any) -> None:
    text = "name: rates\nbase: simulated.yaml\narms:\n  'a:b': {lr: 0.001}\n  'c:d:e': {lr: 0.003}\nbaseline: 'a:b'\n"
    folder = make_folder(text=text, **{"a:b": LOW, "c:d:e": HIGH})
    assert found(folder, "rates:a:b", f"{folder}:c:d:e").by_seed[0] == (3.1, 3.0)
    with pytest.raises(UserError, match="unknown arm 'c:d'"):
        found(folder, "rates:c:d", "rates:a:b")


def test_configurations_are_flattened() -> None:
    flattened = flat({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None})
    assert {path: str(value) for path, value in flattened.items()} == {
        "a.b": "1",
        "a.c": "{}",
        "d": "[1, 2]",
        "e": "None",
    }
