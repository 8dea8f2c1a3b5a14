"""Costs of a cell and of an epoch are told apart; a small measurement on real cells goes through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tune_cost import Ends, figures

ROOT = Path(__file__).parents[2]


def test_a_cell_and_an_epoch_are_told_apart() -> None:
    """A cell takes 2 s and 1 s of the driver with one epoch, and 0.1 s and 0.01 s more with each further one."""
    single = Ends([2.0 * n for n in range(12)], [1.0 * n for n in range(12)], [100.0 + n // 6 * n for n in range(12)])
    many = Ends([2.9 * n for n in range(4)], [1.09 * n for n in range(4)], [0.0] * 4)
    found = figures(single, many, epochs=10)
    assert found["seconds_per_cell"] == found["first_third"] == found["last_third"] == 2.0
    assert found["driver_cpu_per_cell"] == 1.0
    assert found["seconds_per_epoch"] == pytest.approx(0.1)
    assert found["driver_cpu_per_epoch"] == pytest.approx(0.01)
    assert found["megabytes_per_cell"] == 1.0, "of the second half"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_real_cells_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "tune.json"
    command = [sys.executable, "-m", "benchmarks.tune_cost", "--cells", "12", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["cells"] == 12
    assert 0 < found["seconds_per_cell"] < 30 and found["driver_cpu_per_cell"] > 0
