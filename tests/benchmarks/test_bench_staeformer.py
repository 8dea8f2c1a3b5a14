"""The goal is computed from rates and ceiling; variants in processes of their own take turns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench_pairs import Ratio
from benchmarks.bench_staeformer import PAIRS, Variant, allowed, goal_of

ROOT = Path(__file__).parents[2]


def test_the_ceiling_allows_as_many_samples_as_it_has_flop_for():
    assert allowed(top=100e9, flop_per_sample=10e9, published=5.0) == 2.0


@pytest.mark.parametrize(
    ("reached", "most", "met"), [(1.8, 9.0, True), (1.79, 9.0, False), (1.36, 1.5, True), (1.34, 1.5, False)]
)
def test_a_ceiling_below_the_goal_lowers_it(reached, most, met):
    goal = goal_of(Ratio(reached, reached, reached), most)
    assert goal.met is met and goal.reached == reached


def test_variants_have_names_of_their_own():
    names = [variant.name for pair in PAIRS for variant in pair]
    assert len(set(names)) == len({variant for pair in PAIRS for variant in pair})
    assert Variant("published", bf16=True, keeps_memory=False).name == "STAEformer as published, bf16"


@pytest.mark.slow
def test_all_but_the_compiled_are_measured_in_turn(tmp_path):
    out = tmp_path / "staeformer.json"
    sizes = ["--rounds", "2", "--threads", "1", "--batch", "1", "--sensors", "3", "--side", "64", "--no-compile"]
    command = [sys.executable, "-m", "benchmarks.bench_staeformer", *sizes, "--out", str(out)]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result = json.loads(out.read_text())
    pairs = result["pairs"]
    assert [found["names"][0] for found in pairs] == ["Phase 1"] * 3 + ["Phase 1, bf16"]
    assert len({found["params"][1] for found in pairs}) == 1, "STAEformer as published and ours have the same weights"
    first = pairs[0]
    most = allowed(first["ceiling_flop_per_second"], first["flop_per_sample"], first["samples_per_second"][1])
    assert result["goal"]["met"] is (first["ratio"]["median"] >= min(1.8, 0.9 * most))
    assert "Goal: at least 1.8 x" in page
