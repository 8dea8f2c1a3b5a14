"""A few small trained cells, for the commands that use what was trained."""

from __future__ import annotations

import shutil

import pytest

from experiments.cli import main
from experiments.runs import find_run

SMALL = {
    "embed_dim": 8,
    "num_heads": 2,
    "adaptive_dim": 4,
    "patch_len": 3,
    "temporal_depth_1": 1,
    "spatial_depth_1": 1,
    "temporal_depth_2": 1,
    "spatial_depth_2": 1,
    "steps_per_epoch": 3,
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.003,
    "val_stride": 5,
    "test_stride": 10,
}
NETWORK = {"sensors": 8, "days": 4}


def options(**fields):
    return [text for name, value in fields.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def trained_out(tmp_path_factory):
    """A folder of runs: seed0..seed3 differ in the seed, ``stride`` in the windows scored, ``network`` in the data."""
    out = tmp_path_factory.mktemp("trained") / "runs"
    common = ["train", "--cfg", "simulated", "--device", "cpu", "--threads", "1", "--out", str(out)]
    cells = {f"seed{seed}": {"seed": seed} for seed in range(4)} | {
        "stride": {"test_stride": 9},
        "network": {"days": 5},
    }
    for name, fields in cells.items():
        assert main([*common, "--experiment_name", name, *options(**(SMALL | NETWORK | fields))]) == 0
    return out


@pytest.fixture
def own_out(trained_out, tmp_path):
    """A copy of the folder of runs that a test may change."""
    return shutil.copytree(trained_out, tmp_path / "own")


@pytest.fixture
def seeds(trained_out):
    """The runs seed0..seed3."""
    return [find_run(f"seed{seed}", trained_out) for seed in range(4)]
