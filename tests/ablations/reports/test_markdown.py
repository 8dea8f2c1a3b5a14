"""The report says what the records say: its tables are parsed back and compared with numpy on the records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scipy import stats

from ablations.cells import CellResult
from ablations.reports.data import ReportData
from ablations.reports.facts import unfinished
from ablations.reports.files import write_report
from ablations.reports.markdown import markdown
from ablations.reports.markdown_text import code_block, escape, table
from ablations.reports.numbers import signed
from experiments.scores_table import QUICK_NOTE

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
SAME = [3.001, 3.009, 2.999]


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a Markdown text as rows of shown texts, header first, as a Markdown reader sees them."""
    found: list[list[list[str]]] = []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open", "th_close", "td_close"):
            inside = token.type.endswith("open")
        elif token.type == "inline" and inside:
            found[-1][-1].append(shown(token.children))
    return found


def table_of(data: ReportData, heading: str) -> list[list[str]]:
    """The first table under a heading."""
    return tables(markdown(data, {}).split(f"\n## {heading}\n")[1].split("\n## ")[0])[0]


def shown(children: Any) -> str:
    """The text of inline tokens; anything but text in them is markup that a name has made."""
    assert {child.type for child in children} <= {"text", "text_special"}, children
    return "".join(child.content for child in children)


def arms_table(data: ReportData) -> dict[str, dict[str, str]]:
    header, *rows = table_of(data, "Arms")
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def spread(values: list[float], decimals: int = 3) -> str:
    return f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"


def test_the_table_is_numpy_on_the_records(make_report: Any) -> None:
    arms = {"2-2-2-2": BASE, "3-3-3-3": BETTER, "1-1-2-2": SAME}
    data, results = make_report(arms)
    found = arms_table(data)
    assert list(found) == list(arms)
    tested = {name: stats.ttest_rel(values, BASE) for name, values in arms.items() if values is not BASE}
    smaller, larger = sorted(test.pvalue for test in tested.values())
    for name, row in found.items():
        records = [result.record for result in results if result.arm == name]
        test = [record["test"] for record in records]
        low, high = stats.t.interval(0.95, 2, np.mean(arms[name]), stats.sem(arms[name]))
        assert row["parameters"].replace(",", "") == str(records[0]["params"])
        assert row["seeds"] == "3"
        assert row["val MAE"] == spread([record["val"]["all"]["mae"] for record in records])
        assert row["test MAE"] == spread([one["all"]["mae"] for one in test])
        assert row["95 % interval"] == f"[{low:.3f}, {high:.3f}]"
        assert row["MAE 15 min"] == spread([one["3"]["mae"] for one in test])
        assert row["MAE 30 min"] == spread([one["6"]["mae"] for one in test])
        assert row["MAE 60 min"] == spread([one["12"]["mae"] for one in test])
        assert row["RMSE"] == spread([one["all"]["rmse"] for one in test])
        assert row["MAPE %"] == spread([one["all"]["mape"] for one in test], 2)
        difference = row["difference in test MAE [95 %]"]
        if name == "2-2-2-2":
            assert (difference, row["p (Holm)"], row["d_z"], row["verdict"]) == ("-", "-", "-", "baseline")
            continue
        interval = tested[name].confidence_interval(0.95)
        mean = np.mean(np.array(arms[name]) - np.array(BASE))
        assert difference == f"{mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        assert row["d_z"] == f"{mean / np.std(np.array(arms[name]) - np.array(BASE), ddof=1):+.2f}"
        p = 2 * smaller if tested[name].pvalue == smaller else max(2 * smaller, larger)
        assert row["p (Holm)"] == (f"{p:.3f}" if p >= 0.001 else "< 0.001")
        assert row["verdict"] == {"3-3-3-3": "better", "1-1-2-2": "no difference shown"}[name]


def test_errors_by_horizon_are_numpy_on_the_records(make_report: Any) -> None:
    data, results = make_report({"a": BASE, "b": BETTER})
    header, *rows = table_of(data, "Errors by horizon")
    assert header[:4] == ["arm", "MAE 15 min", "RMSE 15 min", "MAPE 15 min"] and header[-1] == "MAPE all steps"
    for row in rows:
        test = [result.record["test"] for result in results if result.arm == row[0]]
        expected = [
            spread([one[step][metric] for one in test], 2 if metric == "mape" else 3)
            for step in ("3", "6", "12", "all")
            for metric in ("mae", "rmse", "mape")
        ]
        assert row[1:] == expected


def test_the_summary_names_each_verdict_with_its_numbers(make_report: Any) -> None:
    data, _ = make_report({"2-2-2-2": BASE, "3-3-3-3": BETTER, "1-1-2-2": SAME}, unit="mph")
    assert data.summary.startswith("By test MAE on METR-LA, against the baseline 2-2-2-2 (3.003 mph, 3 of 3 seeds):")
    assert re.search(r"better: 3-3-3-3 \(-0\.059 \[-0\.0\d\d, -0\.0\d\d\]\)", data.summary)
    assert "no difference shown: 1-1-2-2" in data.summary


def test_the_summary_counts_the_arms_of_a_verdict_that_has_many(make_report: Any) -> None:
    many = {str(place): [value + place / 1000 for value in SAME] for place in range(9)}
    data, _ = make_report({"a": BASE, "b": BETTER, **many})
    ends = [np.mean(np.array(many[name]) - np.array(BASE)) for name in ("0", "8")]
    assert f"no difference shown: 9 arms ({ends[0]:+.3f} to {ends[1]:+.3f}). Lowest" in data.summary
    assert "better: b (" in data.summary


def test_the_summary_names_seeds_that_diverged(make_report: Any, make_record: Any) -> None:
    left = [make_record(3.0, seed, "diverged") for seed in (3, 4)]
    data, _ = make_report({"a": [*BASE, 3.0, 3.01], "b": [*BETTER, *left]})
    assert re.search(r"better: b \(-0\.059 \[-0\.0\d\d, -0\.0\d\d\]; 2 of 5 seeds diverged\)", data.summary)
    data, _ = make_report({"a": [*BASE, *left], "b": [*BETTER, 2.9, 2.95]})
    assert "against the baseline a (3.003, 2 of 5 seeds diverged): better: b (" in data.summary


@pytest.mark.parametrize(
    ("step_minutes", "labels"),
    [
        (5, ["15 min", "30 min", "60 min"]),
        (15, ["45 min", "90 min", "3 h"]),
        (60, ["3 h", "6 h", "12 h"]),
        (None, ["step 3", "step 6", "step 12"]),
    ],
)
def test_labels_have_the_datas_own_minutes(step_minutes: int | None, labels: list[str], make_report: Any) -> None:
    data, _ = make_report({"a": BASE}, step_minutes=step_minutes)
    assert [label for _, label in data.horizons] == [*labels, "all steps"]
    assert [column[4:] for column in arms_table(data)["a"] if column.startswith("MAE ")] == labels


def test_quick_numbers_carry_their_marker_everywhere(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER}, profile="quick")
    text = markdown(data, {"Errors": "plots/errors.png"})
    marker = QUICK_NOTE[1:]
    assert "quick" in text.splitlines()[0]
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert {section.splitlines()[0] for section in sections[1:] if marker in section} == {
        "Arms",
        "Equivalence and power",
        "Errors by horizon",
    }
    assert marker in sections[0]
    full, _ = make_report({"a": BASE, "b": BETTER})
    assert marker not in markdown(full, {})


@pytest.mark.parametrize("status", ["diverged", "failed", "not run"])
def test_a_cell_that_is_not_done_is_left_out_and_named(status: str, make_report: Any, make_record: Any) -> None:
    other = None if status == "not run" else make_record(99.0, 3, status, 4)
    data, _ = make_report({"a": [*BASE, 3.0], "b": [*BETTER, other]})
    row = arms_table(data)["b"]
    assert (row["seeds"], row["test MAE"]) == ("3 of 4", spread(BETTER))
    assert row["val MAE"] == spread([mae - 0.25 for mae in BETTER])
    assert row["verdict"] == f"better (1 of 4 seeds {status})"
    (unfinished,) = table_of(data, "Cells that are not done")[1:]
    assert unfinished[:3] == ["b", "3", status]
    assert {"diverged": "after epoch 4", "failed": "RuntimeError: no memory", "not run": "no record"}[
        status
    ] in unfinished[3]


def test_an_arm_with_a_stopped_cell_is_neither_averaged_nor_compared(make_report: Any, make_record: Any) -> None:
    stopped = make_record(2.0, 2, "stopped", 2)
    arms = {"a": BASE, "b": [*BETTER[:2], stopped], "c": BETTER}
    data, _ = make_report(arms, {"kind": "search", "scheduler": "asha"})
    row = arms_table(data)["b"]
    assert row["verdict"].startswith("stopped at epoch 2 (1 of 3 seeds stopped")
    assert {row[column] for column in row if column not in ("arm", "parameters", "seeds", "verdict")} == {"-"}
    alone, _ = make_report({"a": BASE, "c": BETTER}, {"kind": "search", "scheduler": "asha"})
    assert arms_table(data)["c"]["p (Holm)"] == arms_table(alone)["c"]["p (Holm)"]  # not one of Holm's arms
    text = markdown(data, {})
    assert "Scheduler: asha on" in text and "neither averaged nor compared" in text
    assert "A search stopped 1 of 9 cells early" in text
    assert "by type asha, grace\\_period 2, after epoch 2" in text


def test_data_without_a_unit_leave_no_gap_in_a_sentence(make_report: Any) -> None:
    texts = [markdown(make_report({"a": BASE, "b": BETTER}, unit=unit)[0], {}) for unit in ("mph", "")]
    assert "deviation over seeds; errors in mph. The difference" in texts[0]
    assert "deviation over seeds. The difference" in texts[1]


def test_the_reason_of_a_stopped_cell_names_the_rule_and_no_hashes() -> None:
    rule = {"type": "futility", "rungs": [0.25, 0.5], "margin": 0.02, "against": ["a5a513712a31dae8"]}
    cell = CellResult("much", 0, "b" * 16, {"status": "stopped", "epochs": 3, "stopped_by": rule})
    assert unfinished(cell).reason == "by type futility, rungs 0.25, 0.5, margin 0.02, after epoch 3"


def test_without_early_stopping_the_report_says_so(make_report: Any) -> None:
    data, _ = make_report({"a": BASE}, {"scheduler": "none"})
    assert "Scheduler: none: every cell runs to its own end" in markdown(data, {})


def test_one_seed_refuses_statistics(make_report: Any) -> None:
    data, _ = make_report({"a": [3.0], "b": [2.9]})
    row = arms_table(data)["b"]
    assert (row["test MAE"], row["95 % interval"], row["p (Holm)"]) == ("2.900", "-", "-")
    assert row["difference in test MAE [95 %]"] == "-0.100"
    assert row["verdict"] == "not enough seeds (one seed in common)"
    text = markdown(data, {})
    assert "**No statistics: they need at least 3 seeds that an arm has in common with the baseline" in text
    assert "and there is only one." in text.split("## Arms")[1].split("\n## ")[0]
    assert "With 1 seed nothing can be tested" in text and "p (equivalence)" not in text
    enough, _ = make_report({"a": BASE, "b": BETTER})
    assert "No statistics" not in markdown(enough, {})


def test_the_power_table_is_scipy_on_the_records(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER, "c": SAME}, {"margin": 0.05}, unit="mph")
    rows = {row[0]: dict(zip(table[0], row, strict=True)) for table in [table_of(data, POWER)] for row in table[1:]}
    equivalence = {}
    for name, values in {"b": BETTER, "c": SAME}.items():
        differences = np.array(values) - np.array(BASE)
        critical = stats.t.ppf(1 - 0.05 / 4, 2) * stats.sem(differences)
        assert rows[name]["smallest that shows"] == f"{critical:.3f}"
        sides = (stats.ttest_1samp(differences, side * 0.05, alternative=way) for side, way in TWO_SIDES)
        equivalence[name] = max(side.pvalue for side in sides)
    smaller, larger = sorted(equivalence.values())
    corrected = {smaller: min(1.0, 2 * smaller), larger: min(1.0, max(2 * smaller, larger))}
    for name, row in rows.items():
        assert row["p (equivalence)"] == f"{corrected[equivalence[name]]:.3f}"
        expected = "within ±0.05 mph" if corrected[equivalence[name]] < 0.05 else "not shown"
        assert row["equivalence"] == expected
    assert {row["equivalence"] for row in rows.values()} == {"within ±0.05 mph", "not shown"}


POWER = "Equivalence and power"
TWO_SIDES = ((-1, "greater"), (1, "less"))


def test_ranks_are_tested_from_six_seeds_on_and_the_reason_is_given(make_report: Any) -> None:
    few, _ = make_report({"a": BASE, "b": BETTER})
    assert "p (Wilcoxon)" not in table_of(few, POWER)[0] and "Wilcoxon) is given from 6 seeds on" in markdown(few, {})
    six = [2.95, 2.94, 2.96, 2.93, 2.97, 2.98]
    many, _ = make_report({"a": [3.0 + 0.001 * seed for seed in range(6)], "b": six})
    header, row = table_of(many, POWER)
    assert dict(zip(header, row, strict=True))["p (Wilcoxon)"] == "0.031"
    assert "given from 6 seeds on" not in markdown(many, {})


def test_the_summary_ends_with_the_best_of_the_other_arms(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER, "c": SAME}, unit="mph")
    assert data.summary.endswith("Lowest mean of the other arms: b (2.944 mph, better).")
    alone, _ = make_report({"a": BASE})
    assert alone.summary.endswith("no other arm.")


def test_a_margin_in_percent_is_no_margin_in_the_datas_unit(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BASE}, {"objective": "val_mape"}, unit="mph")
    assert "equivalent within ±0.02 %" in data.arms[1].note and "(8.108 %, " in data.summary


def test_values_tuned_for_each_arm_are_shown(make_report: Any) -> None:
    tuned = {"a": {"lr": 0.001}, "b": {"lr": 0.0005, "dropout": 0.1}}
    data, _ = make_report({"a": BASE, "b": BETTER}, tuned=tuned, tuning_note="By validation MAE: b 0.001 2.75.")
    assert table_of(data, "Values tuned for each arm") == [
        ["arm", "lr", "dropout"],
        ["a", "0.001", "-"],
        ["b", "0.0005", "0.1"],
    ]
    assert "By validation MAE: b 0.001 2.75." in markdown(data, {})


def test_missing_metrics_are_dashes(make_report: Any, make_record: Any) -> None:
    record = make_record(3.0)
    record["test"] = {"all": {"mae": 3.0, "rmse": None, "mape": float("nan")}, "mae_unmasked": None, "windows": 9}
    data, _ = make_report({"a": BASE, "b": [record]})
    row = arms_table(data)["b"]
    assert [row[column] for column in ("test MAE", "MAE 15 min", "RMSE", "MAPE %")] == ["3.000", "-", "-", "-"]


@pytest.mark.parametrize("stopped", [False, True])
def test_without_a_baseline_to_compare_with_nothing_is_compared(
    stopped: bool, make_report: Any, make_record: Any
) -> None:
    base = [make_record(3.0, seed, "stopped" if stopped else "failed", 2) for seed in range(3)]
    data, _ = make_report({"a": base, "b": BETTER}, {"kind": "search", "scheduler": "asha"})
    assert arms_table(data)["b"]["verdict"] == "not compared"
    assert data.summary.startswith("The baseline a has no test MAE on METR-LA")


def test_a_search_without_baseline_names_the_lowest(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER}, {"kind": "search", "baseline": None})
    assert data.summary == "Lowest test MAE on METR-LA: b."
    assert data.baseline is None and not any(arm.is_baseline for arm in data.arms)


def test_without_a_baseline_there_are_no_columns_of_differences(make_report: Any, make_record: Any) -> None:
    stopped = [make_record(3.4, seed, "stopped", epochs) for seed, epochs in enumerate((4, 8, 8))]
    search = {"kind": "search", "baseline": None, "scheduler": "asha"}
    data, _ = make_report({"a": BASE, "b": BETTER, "c": stopped}, search)
    assert [column for column in arms_table(data)["a"] if "difference" in column or column in ("p (Holm)", "d_z")] == []
    assert arms_table(data)["b"]["verdict"] == "not compared"
    assert table_of(data, "Arms that were stopped")[1:] == [["c", "4 to 8", "3"]]
    text = markdown(data, {})
    assert "No baseline is named, so nothing is compared." in text and "Holm" not in text


def test_nothing_run_yet_is_a_report_too(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"a": [None, None], "b": [None, None]})
    text = write_report(data, tmp_path).read_text()
    assert arms_table(data)["b"]["verdict"] == "not run (2 of 2 seeds not run)"
    assert "nothing can be compared" in text and "## Plots" not in text


def test_the_objective_decides_what_is_compared(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER}, {"objective": "val_rmse"})
    differences = 2 * (np.array(BETTER) - np.array(BASE))
    assert arms_table(data)["b"]["difference in test RMSE [95 %]"].startswith(f"{differences.mean():+.3f} [")


def test_cells_of_an_installed_package_name_its_version(make_report: Any, make_record: Any) -> None:
    cell = make_record(2.9, 0)
    cell["provenance"] |= {"git_commit": None, "git_dirty": None, "versions": {"altformer": "0.1.0"}}
    data, _ = make_report({"a": [cell]})
    assert dict(data.provenance)["git commit"] == "none, altformer 0.1.0 as installed"


def test_provenance_time_and_repeats(make_report: Any, make_record: Any) -> None:
    dirty = make_record(2.9, 2)
    dirty["provenance"] |= {"git_commit": "e" * 40, "git_dirty": True}
    dirty["data_hash"] = "f" * 64
    data, _ = make_report({"a": [*BASE[:2], dirty]}, wall_seconds=7200.0, slots=2, command="altformer ablate x|y")
    provenance = dict(data.provenance)
    assert provenance["command"] == "altformer ablate x|y"
    assert provenance["git commit"] == f"{'c' * 40}; {'e' * 40} with uncommitted changes"
    assert provenance["versions"] == "python 3.12.1, torch 2.13.0"
    assert provenance["hardware"] == "cpu a processor, cores 2"
    assert (provenance["first start"][:10], provenance["last end"][:10]) == ("2026-01-01", "2026-01-03")
    assert dict(data.timing)["slot-hours of this run"] == "4.00 (2 slots)"
    assert dict(data.timing)["training time of all cells"] == "7.5 min"
    assert [warning.split(":")[0] for warning in data.warnings] == [
        "The cells come from 2 data sets",
        "The cells come from 2 commits",
    ]
    assert "altformer train --cfg cells/1/config.yaml --out repeat # a, seed 1" in markdown(data, {})


def test_reused_cells_are_counted_apart(make_report: Any) -> None:
    data, _ = make_report({"a": [3.0, 3.1, None]}, reused={0})
    timing = dict(data.timing)
    assert timing["cells"] == "3: 1 trained in this run, 1 done before, 1 not run"
    assert (timing["training time of all cells"], timing["training time of the cells that ended in this run"]) == (
        "5.0 min",
        "2.5 min",
    )


NAMES = [
    "<script>alert(1)</script>",
    "a & b",
    "under_score_d",
    "../../up",
    "two\nlines",
    "=1+1",
    "pipe | pipe",
    "`code`",
    "*star* **bold**",
    "[link](http://x)",
    "![image](x.png)",
    "$x^2$",
    "back\\slash \\| end\\",
    "&lt;",
    "# head",
    "~~gone~~",
    "\u2028sep",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name: str, make_report: Any) -> None:
    data, _ = make_report({"base": BASE, name: [*BETTER[:2], None]}, dataset=name, looks=(2, 3))
    text = markdown(data, {f"A plot of {name}": "plots/a.png"})
    plain = " ".join(name.split())
    arms, horizons, unfinished = (
        table_of(data, heading) for heading in ("Arms", "Errors by horizon", "Cells that are not done")
    )
    assert [table[-1][0] for table in (arms, horizons, unfinished)] == [plain] * 3
    assert len(arms) == len(horizons) == 3 and len(unfinished) == 2
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    assert "<script" not in html and html.count("<img") == 1 and "<a " not in html and "<s>" not in html
    assert html.count("<h1") == 1


def test_names_are_no_paths(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"base": BASE, **dict.fromkeys(NAMES[:6], BETTER)}, {"name": "../../up"}, dataset="../x/\ny")
    assert write_report(data, tmp_path / "run") == tmp_path / "run" / "report.md"
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in files if path.parent == tmp_path / "run"} == {
        "report.md",
        "report.html",
        "report.tex",
        "statistics.csv",
    }
    assert {path.parent for path in files} == {tmp_path / "run", tmp_path / "run" / "plots"}


printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1)


@given(printable)
def test_any_text_survives_a_table(text: str) -> None:
    assert tables(table(["x", "y"], [[text, "1"], [f"a {text} b", "2"]]))[0][1:] == [[text, "1"], [f"a {text} b", "2"]]


@given(st.text())
def test_any_text_stays_one_line(text: str) -> None:
    assert len(escape(text).splitlines()) <= 1


@given(st.lists(st.text(), min_size=1))
def test_nothing_ends_a_code_block(lines: list[str]) -> None:
    tokens = MarkdownIt("commonmark").parse(f"{code_block(lines)}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]


def test_notes_of_the_plan_are_shown(make_report: Any) -> None:
    data, _ = make_report({"a": BASE}, notes=("Arm b is left out.",))
    assert "> **Note.** Arm b is left out." in markdown(data, {})


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "+0.000"), (-0.0001, "+0.000"), (0.0004, "+0.000"), (-0.0006, "-0.001"), (1.5, "+1.500")]
)
def test_what_is_rounded_to_zero_is_not_below_it(value: float, text: str) -> None:
    assert signed(value) == text
