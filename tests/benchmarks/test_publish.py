"""Publishing: what is copied, where the summary's links go, and what is left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.publish import publish

REPORT = "# Title\n\n## Arms\n\ntable\n\n## Plots\n\n![a](plots/a.png)\n\n## Time\n\nlong\n"


@pytest.fixture
def runs(tmp_path):
    def add(folder, name, dataset="METR-LA", age=0, report=REPORT):
        path = tmp_path / "runs" / folder
        (path / "plots").mkdir(parents=True)
        (path / "report.md").write_text(report)
        (path / "cells.csv").write_text("arm\n")
        (path / "plan.json").write_text(json.dumps({"matrix": {"name": name}, "dataset": dataset}))
        for other in ("report.html", "report.tex", "statistics.csv", "plots/a.png", "plots/a.pdf"):
            (path / other).write_bytes(other.encode())
        os.utime(path / "report.md", (age, age))
        return path

    add("depth-METR-LA-aaaaaa", "depth")
    add("loss-METR-LA-bbbbbb", "loss", age=2)
    add("loss-METR-LA-cccccc", "loss", age=1, report="older")
    add("datasets-METR-LA-dddddd", "datasets")
    add("datasets-PEMS08-eeeeee", "datasets", "PEMS08")
    union = add("all-METR-LA-ffffff", "all")
    (union / "summary.md").write_text(
        "[depth](../depth-METR-LA-aaaaaa/report.md) [loss](../loss-METR-LA-bbbbbb/report.md)\n"
    )
    tables = tmp_path / "runs" / "datasets-2-data-sets-0a1b2c"
    tables.mkdir()
    for suffix in ("md", "tex", "csv"):
        (tables / f"table.{suffix}").write_text(suffix)
    return tmp_path / "runs"


def test_a_tuning_campaign_is_published_with_its_decisions_and_the_ledgers(runs, tmp_path):
    campaign = runs / "tuning-METR-LA-0a1b2c"
    table = campaign / f"{campaign.name}-datasets" / "table.md"
    table.parent.mkdir(parents=True)
    table.write_text("table\n")
    (campaign / "report.md").write_text("# Plan\n\nIn full: [a](a/report.md), [b](b/report.md)\n\nend\n")
    (campaign / "decisions.jsonl").write_text("{}\n")
    (runs / "test_ledger-METR-LA.jsonl").write_text("{}\n")
    to = tmp_path / "results"
    publish(runs, to)
    assert (to / "tuning" / "report.md").read_text() == "# Plan\n\nend\n"
    assert {path.name for path in (to / "tuning").iterdir()} == {"report.md", "decisions.jsonl", "table.md"}
    assert (to / "test_ledger-METR-LA.jsonl").is_file() and (to / "depth" / "report.md").is_file()


def test_every_matrix_has_its_folder_and_the_links_of_the_summary_resolve(runs, tmp_path):
    to = tmp_path / "results"
    publish(runs, to)
    files = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert files == {
        "summary.md",
        "depth/report.md",
        "depth/report.html",
        "depth/report.tex",
        "depth/cells.csv",
        "depth/statistics.csv",
        "depth/plan.json",
        "depth/plots/a.png",
        "depth/plots/a.pdf",
        "loss/report.md",
        "loss/cells.csv",
        "loss/statistics.csv",
        "datasets/METR-LA/report.md",
        "datasets/METR-LA/cells.csv",
        "datasets/METR-LA/statistics.csv",
        "datasets/PEMS08/report.md",
        "datasets/PEMS08/cells.csv",
        "datasets/PEMS08/statistics.csv",
        "datasets/table.md",
        "datasets/table.tex",
        "datasets/table.csv",
    }
    assert (to / "summary.md").read_text() == "[depth](depth/report.md) [loss](loss/report.md)\n"


def test_a_report_without_its_plots_does_not_show_them(runs, tmp_path):
    publish(runs, tmp_path / "results")
    text = (tmp_path / "results" / "loss" / "report.md").read_text()
    assert text == REPORT.replace("## Plots\n\n![a](plots/a.png)\n\n", "")
    assert (tmp_path / "results" / "depth" / "report.md").read_text() == REPORT


def test_what_an_earlier_publication_left_is_removed(runs, tmp_path):
    to = tmp_path / "results"
    stale = ["loss/plots/a.png", "loss/plan.json", "datasets/report.md", "datasets/PEMS04/report.md", "depth/table.md"]
    kept = ["loss/notes.txt", "embedding/report.md", "bench.md", "datasets/own/notes.txt"]
    for name in (*stale, *kept):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text("old")
    publish(runs, to)
    assert [name for name in stale if (to / name).exists()] == []
    assert [(to / name).read_text() for name in kept] == ["old"] * len(kept)
    assert not (to / "datasets" / "PEMS04").exists()
    assert (to / "loss" / "report.md").read_text() != "old" and (to / "datasets" / "table.md").read_text() == "md"


def test_results_run_depth_with_its_seeds_before_all():
    """So that the page over all matrices has the depth matrix with all its seeds."""
    root = Path(__file__).parents[2]
    shown = subprocess.run(["make", "-n", "results"], cwd=root, capture_output=True, text=True, check=True).stdout
    runs = re.findall(r" ablate ([a-z ]+) --dataset (\S+) --seeds (\d)", shown)
    assert runs == [("depth", "METR-LA", "3"), ("all baselines", "METR-LA", "1"), ("datasets", "at-hand", "1")]
