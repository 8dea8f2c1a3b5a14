"""The table over data sets in its three forms: the same numbers, and names that survive each form."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
import pytest

from ablations.reports.paper_table import as_csv, as_latex, as_markdown, paper_table, write_paper_table

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]


@pytest.fixture
def data(make_report: Any) -> Any:
    metr, _ = make_report({"phase1": BASE, "last_value": BETTER})
    pems, _ = make_report({"phase1": [14.0, 14.2, 14.1], "last_value": [20.0]}, dataset="PEMS08")
    return paper_table([("METR-LA", "datasets", metr), ("PEMS08", "datasets", pems)])


def test_csv_has_mean_and_deviation_of_every_metric_unrounded(data: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(data))))
    assert [(row["dataset"], row["arm"], row["seeds"]) for row in rows] == [
        ("METR-LA", "phase1", "3"),
        ("METR-LA", "last_value", "3"),
        ("PEMS08", "phase1", "3"),
        ("PEMS08", "last_value", "1"),
    ]
    assert float(rows[0]["test_mae_mean"]) == pytest.approx(np.mean(BASE), rel=1e-15)
    assert float(rows[0]["test_rmse_12_std"]) == pytest.approx(np.std(BASE, ddof=1) * 1.17 * 2)
    assert rows[3]["test_mae_std"] == "-", "no deviation of one seed"
    for step in ("_3", "_6", "_12", ""):
        for metric in ("mae", "rmse", "mape"):
            assert f"test_{metric}{step}_mean" in rows[0]


def test_markdown_and_latex_show_the_same_numbers(data: Any) -> None:
    lines = [line for line in as_markdown(data).splitlines() if line.startswith(("| METR", "| PEMS"))]
    shown = [[cell.strip().replace("\\", "") for cell in line.split("|")[4:-1]] for line in lines]
    assert shown[0][0] == f"{np.mean(BASE) * 0.88:.3f} ± {np.std(BASE, ddof=1) * 0.88:.3f}"
    body = [line for line in as_latex(data).splitlines() if line.endswith(r" \\") and "$" in line]
    latex = [[cell.strip(" $\\").replace(r"\pm", "±") for cell in line.split("&")[2:]] for line in body]
    assert latex == shown and len(shown) == 4 and all(len(row) == 12 for row in shown)


def test_latex_is_a_booktabs_table(data: Any) -> None:
    text = as_latex(data)
    assert text.startswith(r"\begin{tabular}{llrrrrrrrrrrrr}") and text.endswith("\\end{tabular}\n")
    assert [text.count(f"\\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 2, 1]
    assert r"\multicolumn{3}{c}{15 min}" in text and r"last\_value" in text and r"\cmidrule(lr){12-14}" in text
    for line in text.splitlines():
        assert not line.endswith(r"\\") or _columns(line) == 14, line


def _columns(line: str) -> int:
    spanned = sum(int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", line))
    return len(re.split(r"(?<!\\)&", line)) + spanned


@pytest.mark.parametrize(
    ("name", "latex"),
    [("a_b", r"a\_b"), ("50%", r"50\%"), ("a & b", r"a \& b"), ("a\\b", r"a\textbackslash{}b"), ("x^2~", None)],
)
def test_names_survive_latex(name: str, latex: str | None, make_report: Any) -> None:
    report, _ = make_report({"phase1": BASE, name: BETTER})
    text = as_latex(paper_table([("METR-LA", "m", report)]))
    assert (latex or r"x\textasciicircum{}2\textasciitilde{}") in text


def test_quick_is_marked_in_every_form(make_report: Any, tmp_path: Any) -> None:
    report, _ = make_report({"phase1": BASE}, profile="quick")
    for path in write_paper_table(paper_table([("METR-LA", "m", report)]), tmp_path):
        assert "not comparable with published numbers" in path.read_text(), path.name


def test_several_matrices_name_their_arms(make_report: Any) -> None:
    one, _ = make_report({"a": BASE})
    table = paper_table([("METR-LA", "depth", one), ("METR-LA", "fusion", one)])
    assert [row.arm for row in table.rows] == ["depth/a", "fusion/a"]
