from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_step_is_measured_against_all_products_of_the_model(tmp_path):
    out = tmp_path / "bench.json"
    command = [
        "-m",
        "benchmarks.bench_step",
        "--pairs",
        "2",
        "--threads",
        "1",
        "--batch",
        "1",
        "--sensors",
        "3",
        "--side",
        "64",
        "--out",
    ]
    page = subprocess.run([sys.executable, *command, out], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result = json.loads(out.read_text())
    layers, gates, head = 8, 2, 1
    each_layer = 6  # query-key-value, attention (over rows as short as these two products), out, widen, narrow
    embedding, decoder = 2, 5  # readings, adaptive; key-value, attention, two outs
    assert result["products"] == layers * each_layer + gates + head + embedding + decoder
    row = result["threads"]["1"]
    assert 0 < row["ratio"]["least"] <= row["ratio"]["median"] <= row["ratio"]["greatest"]
    assert row["flop_per_second"] == pytest.approx(result["flop"] / row["step_seconds"])
    assert row["traffic_per_second"] == pytest.approx(result["traffic_bytes"] / row["step_seconds"])
    assert row["ceiling_flop_per_second"] == max(row["ceilings"].values())
    assert result["goal"][0]["met"] is (row["ratio"]["median"] <= 1.5)
    assert f"| 1 | 2 | {row['step_seconds']:.2f} |" in page
