"""The page over several matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablations.reports.overview import Chapter, Cover, write_summary

BASE = [3.010, 2.995, 3.004]


def test_stopped_arms_and_links_stand_on_the_page(make_report: Any, make_record: Any, tmp_path: Path) -> None:
    stopped = [make_record(3.4, seed, "stopped", 8) for seed in range(3)]
    report, _ = make_report({"a": BASE, "b | <i>": stopped}, {"scheduler": {"type": "futility"}}, unit="mph")
    chapter = Chapter("depth", "The <depth>", tmp_path / "depth", ("a", "b"), report)
    again = Chapter("other", "Another", tmp_path / "other", ("b", "c"), report)
    cover = Cover("Both", "", "full", (("command", "altformer ablate all"),))
    text = write_summary(tmp_path / "all", cover, [chapter, again]).read_text()
    assert "2 matrices with 4 cells, 3 of them distinct" in text and "trained once: 1." in text
    assert "## The &lt;depth&gt;" in text and "[depth](../depth/report.md)" in text
    row = next(line for line in text.splitlines() if line.startswith("| b &#124; &lt;i&gt; |"))
    assert "| stopped at epoch 8 (3 of 3 seeds stopped; +0." in row and row.count("| - |") >= 1
    assert "| command | altformer ablate all |" in text
