"""Both ways of every size are measured, and where the model goes which is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.bench_kernels import ATTENTIONS, MAPS

ROOT = Path(__file__).parents[2]


def test_every_size_is_measured(tmp_path):
    out = tmp_path / "kernels.json"
    command = [sys.executable, "-m", "benchmarks.bench_kernels", "--rounds", "1", "--threads", "1", "--out", str(out)]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [(threads, kinds)] = json.loads(out.read_text())["threads"].items()
    maps, attentions = kinds.values()
    assert threads == "1"
    assert [tuple(row["size"]) for row in maps] == list(MAPS)
    assert [row["chosen"] for row in maps] == [False] * 2 + [True] * (len(MAPS) - 2)
    assert [tuple(row["size"]) for row in attentions] == list(ATTENTIONS)
    assert [row["chosen"] for row in attentions] == [True, True, True, False, False]
    assert all(row["ratio"]["median"] > 0 for row in maps + attentions)
    assert page.count("| yes |") == 7
