"""A campaign of a few seconds on a simulated network, and the runs of one that was trained to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli import main

PLAN = """\
name: toy
title: A toy
base: simulated
machine: {device: cpu, threads: 1}
max_parameters: 20000
settings:
  {sensors: 8, days: 8, val_stride: 40, test_stride: 40, embed_dim: 8, num_heads: 2, adaptive_dim: 4, patch_len: 3,
   batch_size: 8, steps_per_epoch: 4, epochs: 2, lr: 3.0e-3}
goals:
  simulated: {mae: ["< 1000", "<= 0.001"], minutes: 5}
steps:
  first: {datasets: [simulated], seeds: 2}
  tune:
    rate:
      dataset: simulated
      settings: {epochs: 1}
      candidates:
        tiny: {lr: 1.0e-9}
        fast: {lr: 2.0e-2}
    size:
      dataset: simulated
      candidates:
        narrow: {mlp_ratio: 1}
  final: {datasets: [simulated], seeds: 3, settings: {ema_decay: 0.5}}
  ablate:
    dataset: simulated
    seeds: 2
    arms:
      no_average: {ema_decay: 0}
"""


def write_plan(folder: Path, *changes: tuple[str, str], name: str = "toy") -> Path:
    """The plan in a folder, with texts replaced by others."""
    text = PLAN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """The file of the plan."""
    return write_plan(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="session")
def trained(toy, tmp_path_factory) -> Path:
    """A folder of runs in which the campaign was trained in one slice."""
    out = tmp_path_factory.mktemp("campaign") / "runs"
    assert main(["campaign", str(toy), "--minutes", "60", "--out", str(out)]) == 0
    return out
