"""The command that a report prints for a cell repeats it to the bit."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main

MATRIX = """
name: again
base: simulated.yaml
settings:
  {sensors: 8, days: 8, embed_dim: 8, num_heads: 2, adaptive_dim: 4, epochs: 2, steps_per_epoch: 4, batch_size: 8}
arms:
  usual: {}
  dropped out, smoothed: {dropout: 0.3, augmentation: {noise_std: 0.1}}
baseline: usual
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_cell_is_repeated_to_the_bit_by_its_printed_command(tmp_path: Path, monkeypatch: Any) -> None:
    """In another process, without Ray, on the CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "again.yaml").write_text(MATRIX)
    options = ["--profile", "quick", "--seeds", "2", "--no-mlflow", "--probe-seconds", "0"]
    assert main(["ablate", "again.yaml", "--dataset", "simulated", *options]) == 0
    [report] = tmp_path.glob("runs/again-*/report.md")
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/cells/*/record.json"))]
    assert len(records) == 4
    for record in records[:3]:
        command = record["provenance"]["repeat"]
        assert command in report.read_text()
        name, *rest = shlex.split(command)
        executable = Path(sys.executable).parent / name
        done = subprocess.run([str(executable), *rest], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        again = json.loads((tmp_path / "repeat" / "cells" / record["cell_hash"] / "record.json").read_text())
        for part in ("val", "test", "best_epoch", "epochs", "params"):
            assert again[part] == record[part]
        for one, other in zip(again["curve"], record["curve"], strict=True):
            assert one["train_loss"] == other["train_loss"] and one["val_mae"] == other["val_mae"]
