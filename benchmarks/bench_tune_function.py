"""The form of a matrix that Ray documents: a Tune function that starts a TorchTrainer for every trial.

    python -m benchmarks.bench_tune_function CELLS.json --storage DIR [--slots 2]

The yardstick of benchmarks.bench_matrix, in plain Ray as its guide "Hyperparameter Tuning with Ray Tune" has it: the
trial's function builds a trainer with a `TuneReportCallback` and calls `fit()`; its worker loads the data, trains the
cell with the same `altformer.train.train` and reports each epoch. CELLS.json is a list of configurations. Ray gets a
CPU more than there are slots, since the trial's own function holds a share of one beside its worker's. Prints a line
of JSON: seconds to start Ray, seconds of the sweep, and how many trials ended well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.train
import ray.train.torch
import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback

from altformer.config import Config
from altformer.data.datasets import load
from altformer.train import train
from altformer.training.context import BareContext

ROOT = Path(__file__).parents[1]


class ReportingContext(BareContext):
    """Hands the epochs to Ray Train."""

    def report(self, metrics: Mapping[str, float]) -> None:
        ray.train.report(dict(metrics))


def train_worker(given: dict[str, Any]) -> None:
    """What each trial's one worker runs."""
    import torch

    torch.set_num_threads(1)
    config = Config(**given["cell"])
    train(config, load(config.dataset), ReportingContext(), Path(given["folder"]))


def train_driver(given: dict[str, Any]) -> None:
    """What each trial runs."""
    name = ray.tune.get_context().get_trial_id()
    storage = Path(given["storage"])
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"cell": given["cell"], "folder": str(storage / "cells" / name)},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name=name, storage_path=str(storage), callbacks=[TuneReportCallback()]),
    )
    trainer.fit()


def sweep(cells: list[dict[str, Any]], storage: Path, slots: int) -> int:
    """Train all cells; how many of them ended without an error."""
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train_driver, {"cpu": 0.01}),
        param_space={"cell": ray.tune.grid_search(cells), "storage": str(storage)},
        tune_config=ray.tune.TuneConfig(max_concurrent_trials=slots),
        run_config=ray.tune.RunConfig(name="sweep", storage_path=str(storage), verbose=0),
    )
    return sum(result.error is None for result in tuner.fit())


def main() -> int:
    """Start Ray, sweep, say how long both took; 1 where a trial failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_tune_function", description=__doc__.splitlines()[0]
    )
    parser.add_argument("cells", type=Path)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    cells = json.loads(args.cells.read_text())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ray-f", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
        ray.init(address="local", num_cpus=args.slots + 1, runtime_env=environment, _temp_dir=folder)
        started = time.perf_counter()
        done = sweep(cells, args.storage.resolve(), args.slots)
        ended = time.perf_counter()
        ray.shutdown()
    print(json.dumps({"start_seconds": started - began, "sweep_seconds": ended - started, "done": done}))
    return 0 if done == len(cells) else 1


if __name__ == "__main__":
    sys.exit(main())
