"""What all tests share: small data, the real data where it is, and quiet surroundings."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from altformer.config import Config
from altformer.data.identity import content_hash
from altformer.data.traffic import TrafficData, read_only
from tests.faults.process import Process

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")
torch.set_num_threads(1)  # many tests side by side; more threads only fight on small machines


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave with the tests' own outcome where Ray ran in this process: its threads can crash the interpreter's end.

    Such a crash comes after the last line of the report, from native threads that outlive what they use. The commands
    that the tests try run in processes of their own, so none of their ends is hidden by this.
    """
    if "ray" in sys.modules:
        atexit.register(_leave, session)


def _leave(session: pytest.Session) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(session.exitstatus))


@pytest.fixture
def metr_la_dir() -> Path:
    """The folder of the real data sets; skips, saying so, where METR-LA is not."""
    return _folder_with("METR-LA")


@pytest.fixture
def pems08_dir() -> Path:
    """The folder of the real data sets; skips, saying so, where PEMS08 is not."""
    return _folder_with("PEMS08")


def _folder_with(name: str) -> Path:
    folder = Path(os.environ.get("ALTFORMER_DATA", "data"))
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not there; set ALTFORMER_DATA to the folder that has it")
    return folder


@pytest.fixture
def close() -> Iterator[Callable[[Process], Process]]:
    """Takes a process to be closed when the test is over, and returns it: `process = close(matrix.start())`."""
    processes: list[Process] = []

    def closed(process: Process) -> Process:
        processes.append(process)
        return process

    yield closed
    for process in reversed(processes):
        process.close()


@pytest.fixture(scope="session")
def traffic() -> TrafficData:
    """Two days of six sensors in steps of 30 minutes, with a daily wave, noise and one missing reading in twenty."""
    return make_traffic()


def make_traffic(rows: int = 400, sensors: int = 6, step_minutes: int = 30, seed: int = 0) -> TrafficData:
    rng = np.random.default_rng(seed)
    steps_per_day = 1440 // step_minutes
    wave = np.sin(2 * np.pi * np.arange(rows) / steps_per_day)[:, None]
    values = 50 + 10 * wave * rng.uniform(0.5, 1, sensors) + rng.normal(0, 1, (rows, sensors))
    values[rng.random((rows, sensors)) < 0.05] = 0
    frozen = read_only(values.astype(np.float32))
    return TrafficData(
        name="wave",
        values=frozen,
        times=np.datetime64("2024-01-01T00:00", "m") + np.arange(rows) * np.timedelta64(step_minutes, "m"),
        step_minutes=step_minutes,
        sensor_ids=tuple(f"s{k}" for k in range(sensors)),
        null_value=0.0,
        split=(0.7, 0.1, 0.2),
        unit="mph",
        adjacency=None,
        user_file=True,
        content_hash=content_hash(frozen),
    )


@pytest.fixture(scope="session")
def tiny() -> Config:
    """A configuration that trains an epoch of the ``traffic`` fixture in a fraction of a second."""
    return Config.model_validate(
        {
            "dataset": {"name": "simulated"},
            "model": {
                "embed_dim": 8,
                "num_heads": 2,
                "mlp_ratio": 2,
                "adaptive_dim": 4,
                "temporal_depth_1": 1,
                "spatial_depth_1": 1,
                "temporal_depth_2": 1,
                "spatial_depth_2": 1,
            },
            "training": {"batch_size": 16, "epochs": 3, "steps_per_epoch": 5, "lr": 3e-3},
        }
    )
