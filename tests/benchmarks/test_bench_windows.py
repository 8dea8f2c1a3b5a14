"""A DataLoader's batches are those that are gathered, to the bit, and the difference would be seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from altformer.data.windows import Windows
from benchmarks.bench_windows import LENGTH, all_equal, gathered, loader, made_up

ROOT = Path(__file__).parents[2]


def test_a_loader_gives_the_gathered_batches_to_the_bit():
    windows = Windows.of(made_up(300, 4), LENGTH, LENGTH)
    order = [[3, 100, 7], [0, 1, 2]]
    assert all_equal(gathered(windows, order), iter(loader(windows, order, 0)))
    [batch, *_] = loader(windows, order, 0)
    assert [tuple(part.shape) for part in batch] == [(3, 12, 4), (3, 12, 4), (3, 12), (3, 12), (3, 12, 4), (3, 12, 4)]
    assert not all_equal(gathered(windows, order), iter(loader(windows, [[3, 100, 8], [0, 1, 2]], 0)))


def test_one_wrong_bit_is_seen():
    windows = Windows.of(made_up(300, 4), LENGTH, LENGTH)
    [batch] = gathered(windows, [[5]])
    changed = batch._replace(target=torch.nextafter(batch.target, batch.target + 1))
    assert not all_equal(iter([batch]), iter([changed]))


def test_both_ways_are_measured(tmp_path):
    out = tmp_path / "windows.json"
    sizes = [
        "--rounds",
        "2",
        "--batches",
        "3",
        "--batch",
        "4",
        "--rows",
        "300",
        "--sensors",
        "3",
        "--workers",
        "0",
        "1",
    ]
    command = [sys.executable, "-m", "benchmarks.bench_windows", *sizes, "--out", str(out)]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result = json.loads(out.read_text())
    assert result["equal"] and "to the bit: yes" in page
    assert result["batch_bytes"] == 4 * 12 * (2 * 3 * (4 + 1) + 2 * 8)
    assert set(result["windows_per_second"]) == {"gathered by index", "DataLoader, 0 workers", "DataLoader, 1 workers"}
    assert all(0 < found["least"] <= found["median"] <= found["greatest"] for found in result["ratios"].values())
