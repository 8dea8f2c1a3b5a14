"""Seeds together are measured beside one after the other and, where it is asked for, beside processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench_pairs import Ratio
from benchmarks.bench_seeds import APART, PROCESSES, TOGETHER, config_of, goals_of, markdown, processes_at_once
from benchmarks.bench_windows import made_up

ROOT = Path(__file__).parents[2]
SIZES = ["--rounds", "2", "--steps", "2", "--batch", "2", "--rows", "400", "--sensors", "3", "--threads", "1"]


def test_both_ways_are_measured_for_each_model(tmp_path):
    out = tmp_path / "seeds.json"
    command = [sys.executable, "-m", "benchmarks.bench_seeds", *SIZES, "--seeds", "2", "--device", "cpu", "--out", out]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result = json.loads(out.read_text())
    assert list(result["models"]) == ["quick profile", "wide"]
    for found in result["models"].values():
        assert found["seed_steps_per_second"].keys() == {APART, TOGETHER}
        spread = found["ratios"][TOGETHER]
        assert 0 < spread["least"] <= spread["median"] <= spread["greatest"]
    assert result["goals"] == [] and page.count("needs a GPU") == 2


def test_the_goal_is_that_of_the_best_way_on_a_card():
    models = {"small": {"ratios": {TOGETHER: Ratio(2.6, 2.5, 2.7), PROCESSES: Ratio(1.9, 1.8, 2.0)}}}
    [goal] = goals_of(models, "cuda")
    assert goal.met and goal.reached == 2.6
    rows = {"params": 10, "batch": 8, "load": 0.1, "seed_steps_per_second": {APART: 1.0, TOGETHER: 2.6, PROCESSES: 1.9}}
    shown = {"seeds": 4, "where": "a card", "sensors": 3, "threads": 1, "rounds": 1, "goals": [goal]}
    page = markdown({**shown, "models": {"small": models["small"] | rows}})
    assert "| small | 10 | together | 2.60 | **2.60** (2.50 .. 2.70) | 0.1 |" in page and "**met** (2.60)" in page


@pytest.mark.slow
def test_processes_at_once_are_timed_from_a_common_start(tmp_path):
    config = config_of({"batch_size": 2}, 2)
    configs = [config.model_copy(update={"seed": seed}) for seed in range(2)]
    assert 0 < processes_at_once(configs, made_up(400, 3), "cpu", tmp_path) < 60
