"""The Python interface: what a notebook has in its few lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ablations
from ablations import load_matrix, report, run
from ablations.cells import read_cells
from ablations.matrix import Matrix
from ablations.notebook import Result
from altformer.errors import UserError

ARMS = {"low": {"lr": 0.001}, "high": {"lr": 0.003}}
VALUES = {"name": "mine", "base": "simulated.yaml", "arms": ARMS, "baseline": "low"}


@pytest.fixture
def without_plots(monkeypatch: Any) -> None:
    monkeypatch.setattr("ablations.reports.files.draw_plots", lambda data, folder: {})
    monkeypatch.setattr("ablations.reports.plots.inline_svgs", lambda data: {}, raising=False)
    monkeypatch.setattr("ablations.reports.files.inline_svgs", lambda data: {}, raising=False)


def test_a_matrix_comes_by_name_path_or_content(tmp_path: Path) -> None:
    assert load_matrix("depth").name == "depth" == load_matrix(Path("ablations/depth.yaml")).name
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(VALUES))
    assert load_matrix(VALUES) == load_matrix(VALUES) and isinstance(load_matrix(path), Matrix)
    assert load_matrix(path).model_dump() == load_matrix(VALUES).model_dump()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("dpth", "did you mean 'depth'"),
        ({**VALUES, "sedes": 3}, "matrix: unknown key 'sedes'; did you mean 'seeds'"),
        ({"name": "mine"}, "matrix: 'base' is missing"),
        ({**VALUES, "settings": {"lr": {"quick": 1}}}, "the keys quick and full"),
    ],
)
def test_a_mistake_in_a_matrix_is_named(values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_matrix(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "METR-LA,PEMS08"}, "takes one data set"),
        ({"profle": "quick"}, "unknown option 'profle'; did you mean 'profile'"),
        ({"dry_run": True}, "unknown option 'dry_run'"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"profile": "quik"}, "did you mean 'quick'"),
        ({"settings": {"embed_dm": 4}}, "did you mean 'embed_dim'"),
        ({"settings": {"lr": 0.1}}, "lr.*arm 'low'"),
        ({"scheduler": "ahsa"}, "ahsa"),
        ({"max_cells": 0}, "max-cells"),
    ],
)
def test_a_mistake_in_a_call_is_named_and_nothing_written(changes: Any, message: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    with pytest.raises(UserError, match=message):
        run(VALUES, **{"dataset": "simulated", "profile": "quick", "out": out, **changes})
    assert not out.exists()


@pytest.mark.usefixtures("without_plots")
def test_a_finished_matrix_as_tables(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder(low=[3.1, 3.2, 3.0], high=[2.6, 2.71, 2.5])
    result = report("rates", out=tmp_path / "runs")
    assert result.folder == folder and result.report == folder / "report.html" and result.report.is_file()
    table = result.table
    assert list(table.index) == ["low", "high"] and table.columns.name == "test_mae"
    assert table.loc["high", "difference"] == pytest.approx(-0.4967, abs=1e-4)
    assert table.loc["high", "low"] < table.loc["high", "difference"] < table.loc["high", "high"] < 0
    assert list(table["verdict"]) == ["baseline", "better"]
    assert pd.isna(table.loc["low", "difference"]), "what is missing is no number"
    assert result.cells.to_dict("records") == pd.DataFrame(read_cells(folder / "cells.csv")).to_dict("records")
    assert "against the baseline low" in repr(result)


@pytest.mark.usefixtures("without_plots")
def test_a_notebook_shows_the_report_in_a_frame(make_folder: Any, tmp_path: Path) -> None:
    make_folder()
    result = report("rates", out=tmp_path / "runs")
    shown = result._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and shown.count('"') == 4 and "<script" not in shown
    assert result._repr_markdown_().startswith("# rates on wave")


def test_an_arm_without_numbers_is_in_the_table(make_folder: Any) -> None:
    folder = make_folder(low=[3.1, 3.2, 3.0], high=[{"status": "diverged"}] * 3)
    table = Result(folder).table
    assert table.loc["high", "seeds"] == 0 and pd.isna(table.loc["high", "mean"])


def test_the_names_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys, ablations, ablations.matrix\n"
        "assert not {'torch', 'ray', 'mlflow', 'pandas', 'matplotlib', 'ablations.notebook'} & set(sys.modules)\n"
        "from ablations import load_matrix, run, report\n"
        "assert not {'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules), 'a notebook starts at once'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        ablations.rnu  # noqa: B018
