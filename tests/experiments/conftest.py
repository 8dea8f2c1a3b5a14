"""A few small trained cells, for the commands that use what was trained."""

from __future__ import annotations

import shutil

import pytest

from experiments.cli import main
from experiments.runs import find_run
from tests.small import SMALL, as_options

#: Smaller still, with more of the short network's windows scored.
SETTINGS = {
    **SMALL,
    "temporal_depth_1": 1,
    "spatial_depth_1": 1,
    "temporal_depth_2": 1,
    "spatial_depth_2": 1,
    "steps_per_epoch": 3,
    "epochs": 2,
    "lr": 0.003,
    "days": 4,
    "val_stride": 5,
    "test_stride": 10,
}


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
        assert main([*common, "--experiment_name", name, *as_options(SETTINGS | fields)]) == 0
    return out


@pytest.fixture
def own_out(trained_out, tmp_path):
    """A copy of the folder of runs that a test may change."""
    return shutil.copytree(trained_out, tmp_path / "own")


@pytest.fixture
def seeds(trained_out):
    """The runs seed0..seed3."""
    return [find_run(f"seed{seed}", trained_out) for seed in range(4)]
