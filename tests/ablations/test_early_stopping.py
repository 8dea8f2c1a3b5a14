"""A matrix under the rule that stops arms, on a real Ray: what is stopped, reported, and equal to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cli import main
from tests.small import SMALL, as_settings

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_here")]

MATRIX = """name: stopping
base: simulated
arms:
  ours: {}
  dropout: {dropout: 0.2}
  hopeless: {lr: 1.0e-7}
baseline: ours
seeds: 3
scheduler: {type: futility, margin: 0.5}
"""
SETTINGS = {**SMALL, "epochs": 4, "steps_per_epoch": 8, "training.scheduler": "constant"}


def run(folder: Path, out: str, *more: str) -> dict[tuple[str, int], dict]:
    """Run the matrix; its cells' records by arm and seed."""
    (folder / "stopping.yaml").write_text(MATRIX)
    places = ["--out", str(folder / out), "--profile", "quick", "--no-mlflow"]
    assert main(["ablate", str(folder / "stopping.yaml"), *places, *as_settings(SETTINGS), *more]) == 0
    plan = json.loads(next((folder / out).glob("stopping-*/plan.json")).read_text())
    cells = folder / out / "cells"
    return {
        (cell["arm"], cell["seed"]): json.loads((cells / cell["cell_hash"] / "record.json").read_text())
        for cell in plan["cells"]
    }


def numbers(record: dict) -> tuple:
    """What must be equal to the bit: everything but times."""
    curve = [{key: value for key, value in epoch.items() if "second" not in key} for epoch in record["curve"]]
    return record["status"], record["best_epoch"], record["val"], record["test"], curve


def test_an_arm_that_is_worse_stops_as_a_whole_and_the_others_are_as_without_the_rule(tmp_path, capsys):
    found = run(tmp_path, "ruled")
    statuses = {key: (record["status"], record["epochs"]) for key, record in found.items()}
    assert statuses == {
        (arm, seed): ("stopped", 1) if arm == "hopeless" else ("done", 4)
        for arm in ("ours", "dropout", "hopeless")
        for seed in range(3)
    }
    said = capsys.readouterr().out
    assert "paused dropout seed" in said, "cells gave their slots away"
    assert "stopped at epoch 1" in said
    for seed in range(3):
        record = found["hopeless", seed]
        assert record["test"] is None, "the test set is not read for it"
        assert record["stopped_by"]["type"] == "futility"

    report = next((tmp_path / "ruled").glob("stopping-*/report.md")).read_text()
    [row] = [line for line in report.splitlines() if line.startswith("| hopeless |") and "stopped at epoch 1" in line]
    assert "±" not in row, "nothing of a stopped arm is averaged in the table"

    # Started again there is nothing to do; without the rule only what was stopped is gone on with.
    assert run(tmp_path, "ruled") == found
    assert "9 cells, 0 to run" in capsys.readouterr().out
    free = run(tmp_path, "ruled", "--scheduler", "none")
    assert "9 cells, 3 to run" in capsys.readouterr().out
    assert {record["status"] for record in free.values()} == {"done"}
    for seed in range(3):
        assert numbers(free["hopeless", seed])[4][:1] == numbers(found["hopeless", seed])[4]

    # Cells that waited at a rung and went on are, to the bit, those that never waited.
    straight = run(tmp_path, "free", "--scheduler", "none")
    assert {key: numbers(record) for key, record in straight.items()} == {
        key: numbers(record) for key, record in free.items()
    }


def test_one_seed_stops_nothing(tmp_path):
    found = run(tmp_path, "one", "--seeds", "1")
    assert {record["status"] for record in found.values()} == {"done"}
