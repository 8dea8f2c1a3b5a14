"""Both ways of a linear map are measured, and where the model goes which is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.bench_linear import SIZES

ROOT = Path(__file__).parents[2]


def test_every_size_is_measured(tmp_path):
    out = tmp_path / "linear.json"
    command = [sys.executable, "-m", "benchmarks.bench_linear", "--rounds", "1", "--threads", "1", "--out", str(out)]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [(threads, rows)] = json.loads(out.read_text())["threads"].items()
    assert threads == "1"
    assert [tuple(row["size"]) for row in rows] == list(SIZES)
    assert [row["convolved"] for row in rows] == [False] * 2 + [True] * (len(SIZES) - 2)
    assert all(row["flop_per_second"]["ours"] > 0 for row in rows)
    assert page.count("| yes |") == len(SIZES) - 2
