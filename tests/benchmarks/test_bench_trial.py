"""Overheads are taken apart by slot; a small measurement on real trials goes through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench_trial import warm_overheads

ROOT = Path(__file__).parents[2]


def test_a_warm_cell_costs_the_pause_of_its_slot_and_its_waits() -> None:
    cells = [
        {"slot": 1, "began": 0.0, "ended": 5.0, "waits": [0.5]},
        {"slot": 2, "began": 1.0, "ended": 4.0, "waits": [0.5]},
        {"slot": 2, "began": 4.25, "ended": 8.0, "waits": [0.5, 0.25]},
        {"slot": 1, "began": 5.125, "ended": 9.0, "waits": []},
    ]
    assert warm_overheads(cells) == [1.0, 0.125]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_trials_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "trial.json"
    sizes = ["--cells", "4", "--epochs", "1", "--seconds", "0.1", "--megabytes", "1", "--rounds", "1"]
    command = [sys.executable, "-m", "benchmarks.bench_trial", *sizes, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert [each["workers"] for each in result["results"]] == [1, 2]
    for each in result["results"]:
        assert len(each["warm_seconds"]) == 4 - each["slots"]
        assert each["cold_seconds"][0] > each["warm_mean"] > 0
    assert result["goal"]["met"] is (result["results"][0]["warm_mean"] <= 0.5)
