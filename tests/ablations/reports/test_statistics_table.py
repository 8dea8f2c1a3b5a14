"""statistics.csv: what pandas reads back is what scipy computes from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.reports.statistics_table import write_statistics

BASE = [3.010, 2.995, 3.004]
WORSE = [3.110, 3.085, 3.101]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, na_values="-").set_index(["arm", "metric"])


def test_every_metric_of_every_arm_has_its_interval(make_report: Any, tmp_path: Path) -> None:
    table = read(write_statistics(make_report({"a": BASE, "b": WORSE})[0], tmp_path))
    row = table.loc["b", "test_mae"]
    low, high = stats.t.interval(0.95, 2, np.mean(WORSE), stats.sem(WORSE))
    assert row[["seeds", "mean", "std", "low", "high"]].tolist() == pytest.approx(
        [3, np.mean(WORSE), np.std(WORSE, ddof=1), low, high]
    )
    paired = stats.ttest_rel(WORSE, BASE)
    bounds = paired.confidence_interval(0.95)
    assert row["p"] == pytest.approx(paired.pvalue)
    assert row[["difference_low", "difference_high"]].tolist() == pytest.approx([bounds.low, bounds.high])
    assert row["verdict"] == "worse"
    metrics = set(table.loc["b"].index)
    assert {"val_mae", "test_rmse", "test_mape", "test_mae_3", "test_rmse_12", "test_mape_6"} <= metrics
    assert table.loc["b", "test_mae_3"]["difference"] > 0
    assert np.isnan(table.loc["a", "test_mae"]["difference"]), "the baseline has none to itself"


def test_what_is_missing_is_a_dash_and_never_zero(make_report: Any, make_record: Any, tmp_path: Path) -> None:
    stopped = [make_record(3.2, seed, "stopped") for seed in range(3)]
    path = write_statistics(make_report({"a": BASE, "b": stopped, "c": [3.0]})[0], tmp_path)
    table = read(path)
    assert table.loc["b"].drop(columns=["seeds", "verdict"]).isna().all(axis=None)
    assert table.loc["c", "test_mae"][["std", "low", "high", "p"]].isna().all()
    assert "nan" not in path.read_text() and "None" not in path.read_text()


@pytest.mark.parametrize("name", ["=1+1", "-a", "a,b", 'a"b', "a\nb", "<b>&_../"])
def test_names_are_safe_and_come_back(name: str, make_report: Any, tmp_path: Path) -> None:
    table = pd.read_csv(write_statistics(make_report({"a": BASE, name: WORSE})[0], tmp_path))
    found = set(table["arm"]) - {"a"}
    assert found == {f"'{name}" if name[0] in "=-" else name}
