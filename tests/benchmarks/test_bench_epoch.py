"""Epoch, validation and checkpoint are measured beside what they cannot do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_everything_is_measured_beside_its_least(tmp_path):
    out = tmp_path / "epoch.json"
    sizes = ["--rounds", "2", "--steps", "2", "--batch", "2", "--rows", "400", "--sensors", "3", "--embed-dim", "8"]
    command = [sys.executable, "-m", "benchmarks.bench_epoch", *sizes, "--threads", "1", "--out", str(out)]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result = json.loads(out.read_text())
    assert {name: found["to"] for name, found in result["ratios"].items()} == {
        "epoch": "bare steps",
        "validation": "forward passes",
        "write": "torch.save",
        "read": "torch.load",
    }
    assert result["scored_windows"] == 1, "every 48th of 38"
    assert result["samples_per_second"] == pytest.approx(2 * 2 / result["seconds"]["epoch"])
    moments_and_weights = 3 * 4 * result["params"]
    assert moments_and_weights < result["checkpoint_bytes"] < moments_and_weights + 200_000
    assert "| checkpoint: read |" in page
