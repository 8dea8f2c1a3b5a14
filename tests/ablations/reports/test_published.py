"""Our numbers beside the published ones."""

from __future__ import annotations

from typing import Any

from ablations.matrix import PACKAGE, load_matrix
from ablations.reports.markdown import markdown

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]


def test_published_numbers_stand_beside_ours(make_report: Any) -> None:
    published = {
        "METR-LA": {"STID": {"arm": "b", "3": 2.8, "all": 3.11, "rmse": 6.2, "parameters": "118 k"}},
        "PEMS08": {"other": {"arm": "a", "all": 14.13}},
    }
    data, _ = make_report({"a": BASE, "b": BETTER}, {"published": published}, profile="quick")
    section = markdown(data, {}).split("## Beside the published numbers")[1].split("\n## ")[0]
    theirs, ours = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "STID" in line]
    assert theirs == ["STID", "published", "2.80", "-", "-", "3.11", "6.20", "-", "118 k"]
    assert ours[:2] == ["STID", "ours, arm b"] and ours[5] == "2.94 ± 0.01" and ours[-1] == "1,100,000"
    assert "other" not in section and "not comparable with published numbers" in section
    without, _ = make_report({"a": BASE, "b": BETTER}, {"published": published}, dataset="PEMS04")
    assert "Beside the published" not in markdown(without, {})


def test_published_numbers_without_an_arm_stand_alone_and_the_baseline_has_its_own_row(make_report: Any) -> None:
    published = {"METR-LA": {"STID": {"arm": "b", "all": 3.11}, "HimNet": {"12": 3.37, "all": 2.92}}}
    data, _ = make_report({"a": BASE, "b": BETTER}, {"published": published, "note": "One recipe each."})
    text = markdown(data, {})
    section = text.split("## Beside the published numbers")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    assert [row[:2] for row in rows[2:]] == [
        ["a", "ours, arm a"],
        ["STID", "published"],
        ["STID", "ours, arm b"],
        ["HimNet", "published"],
    ]
    assert rows[2][5] == "3.00 ± 0.01" and rows[-1][4:6] == ["3.37", "2.92"]
    assert "> **Note.** One recipe each." in text
    own = {"METR-LA": {"Phase 1": {"arm": "a", "all": 5.4}}}
    data, _ = make_report({"a": BASE, "b": BETTER}, {"published": own})
    assert [row.model for row in data.published] == ["Phase 1"], "its own row is there already"


def test_shipped_published_numbers_are_those_of_the_protocol() -> None:
    published = load_matrix(PACKAGE / "baselines.yaml").published
    shown = {(data, name): (one.arm, one.mae("all")) for data, own in published.items() for name, one in own.items()}
    assert shown["METR-LA", "MTGNN"] == (None, 3.01) and shown["METR-LA", "HimNet"] == (None, 2.92)
    assert shown["METR-LA", "D2STGNN"] == (None, 2.86) and shown["PEMS08", "STD-MAE (long history)"] == (None, 13.44)
    assert shown["METR-LA", "STAEformer"] == ("staeformer", 2.93)
