"""Cells, scaling and goals of the makespan, by hand; the real thing with three small cells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ablations.matrix import load_matrices
from benchmarks import bench_matrix
from benchmarks.bench_matrix import LOOP, TUNE, Bench, Cells, goals, steps_for

ROOT = Path(__file__).parents[2]


def test_a_matrix_has_the_cells_of_its_loop(tmp_path):
    cells = Cells(count=24, steps=7)
    file = tmp_path / "bench.yaml"
    file.write_text(cells.matrix())
    [matrix] = load_matrices([str(file)])
    assert matrix.name == "bench"
    given = yaml.safe_load(file.read_text())
    each = list(cells.each(24))
    assert len({(cell["lr"], cell["seed"]) for cell in each}) == 24
    assert {cell["lr"] for cell in each} == set(given["grid"]["lr"]) and given["seeds"] == 3
    assert all({name: cell[name] for name in given["settings"]} == given["settings"] for cell in each)
    assert list(cells.each(8)) == each[:8]


def test_steps_fill_the_wanted_seconds():
    """A step takes 0.02 s; 40 of them and the validation took 0.9 s, so that the validation takes 0.1 s."""
    assert steps_for(1.0, epoch_seconds=0.9, samples_per_second=400.0) == 20
    assert steps_for(0.1, epoch_seconds=0.9, samples_per_second=400.0) == 1, "at least one"


def test_a_sample_is_scaled_to_all_cells(tmp_path, monkeypatch):
    bench = Bench(Cells(24, 7), tmp_path, slots=2)
    printed = json.dumps({"start_seconds": 4.0, "sweep_seconds": 10.0, "done": 8})
    monkeypatch.setattr(bench_matrix, "command", lambda words, folder: f"noise\n{printed}\n")
    assert bench.tune_function(8) == 4.0 + 3 * 10.0
    monkeypatch.setattr(bench_matrix, "records", lambda out: {str(k): {"test": {"mae": 1}} for k in range(8)})
    monkeypatch.setattr(bench_matrix, "seconds", lambda work: 5.0)
    assert bench.loop(8, at_once=1) == 15.0


def test_goals_are_computed():
    short = {"trained": [1.0, 1.2], "ratios": {LOOP: {"median": 2.9}, TUNE: {"median": 10.0}}}
    long = {"seconds": 108.0, "ideal": 100.0, "trained": 200.0, "cells": 10}
    assert [goal.met for goal in goals(short, long)] == [False, True, True]
    assert "cells of 1.1 s" in goals(short, long)[0].text
    assert len(goals(short, None)) == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_three_small_cells_go_every_way(tmp_path):
    out = tmp_path / "matrix.json"
    sizes = [
        "--cells",
        "3",
        "--sample",
        "2",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--long-seconds",
        "0",
        "--slots",
        "2",
    ]
    command = [sys.executable, "-m", "benchmarks.bench_matrix", *sizes, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["short"]["same_scores"] and result["short"]["shared_cells"] == 2
    assert result["long"] is None
    assert all(len(found) == 1 and found[0] > 0 for found in result["short"]["seconds"].values())
    assert result["short"]["ratios"]["(a) ideal"]["median"] > 1
    assert len(result["goals"]) == 2
