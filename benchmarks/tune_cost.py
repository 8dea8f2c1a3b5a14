"""What Ray Tune and Ray cost: real cells that train nothing, through the same `run_cells` as a matrix.

    python -m benchmarks.tune_cost [--cells 300] [--slots 2] [--out experiments/results/scale_tune.json]

First cells of one epoch, then a tenth as many of many epochs, so that a cell and an epoch can be told apart. Two local
slots share the machine's cores with driver and Ray. Writes JSON, which the page of benchmarks.scale.simulation shows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from altformer.files import write_text
from benchmarks.scale.costs import resident_megabytes
from benchmarks.scale.simulation import PAGE, TUNE, origin
from cluster.connection import Connection, connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Ended, Listener, TrialContext, Work

MANY_EPOCHS = 40


def train(payload: dict[str, Any], shared: Any, context: TrialContext) -> dict[str, Any]:
    """A cell that trains nothing."""
    for epoch in range(1, payload["epochs"] + 1):
        context.report({"epoch": epoch, "val_mae": 1.0 / epoch})
    return {"status": "done", "epochs": payload["epochs"]}


@dataclass
class Ends(Listener):
    """What the driver has used when each cell ended: time, processor time (seconds), resident memory (MB)."""

    at: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def cell_ended(self, work: Work, ended: Ended) -> None:
        self.at.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.megabytes.append(resident_megabytes())
        if ended.status != "done":
            self.failed.append(f"{work.name}: {ended.status} {ended.error or ''}")


def run(connection: Connection, cells: int, epochs: int, folder: Path) -> Ends:
    """Run so many cells; what the driver had used at each end. SystemExit where one is not done."""
    works = [Work(f"cell{number}", f"cell {number}", {"epochs": epochs}, epochs=epochs) for number in range(cells)]
    ends = Ends()
    run_cells(
        works,
        train,
        None,
        resources=Resources(workers=1, gpus_per_worker=0),
        scheduler=NoScheduler(),
        connection=connection,
        storage=folder,
        listeners=[ends],
    )
    if ends.failed or len(ends.at) < cells:
        raise SystemExit("\n".join(ends.failed) or f"only {len(ends.at)} of {cells} cells have ended")
    return ends


def mean_step(values: Sequence[float]) -> float:
    """The mean difference between neighbours."""
    return (values[-1] - values[0]) / (len(values) - 1)


def figures(single: Ends, many: Ends, epochs: int) -> dict[str, float]:
    """Costs of a cell and of an epoch, from cells of one epoch and cells of `epochs`.

    Memory grows faster at first, with what is imported late; the second half of the cells counts.
    """
    third, half = len(single.at) // 3, len(single.at) // 2
    seconds, cpu = mean_step(single.at), mean_step(single.cpu)
    return {
        "seconds_per_cell": seconds,
        "first_third": mean_step(single.at[: third + 1]),
        "last_third": mean_step(single.at[-third - 1 :]),
        "driver_cpu_per_cell": cpu,
        "megabytes_per_cell": mean_step(single.megabytes[half:]),
        "megabytes_at_most": max(single.megabytes),
        "seconds_per_epoch": (mean_step(many.at) - seconds) / (epochs - 1),
        "driver_cpu_per_epoch": (mean_step(many.cpu) - cpu) / (epochs - 1),
    }


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune_cost", description=__doc__)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PAGE.page.with_name(TUNE))
    args = parser.parse_args()
    temp_dir = tempfile.mkdtemp(prefix="ray-t", dir="/tmp")
    try:
        with connect("local", num_cpus=args.slots, num_gpus=0, temp_dir=temp_dir) as connection:
            single = run(connection, args.cells, 1, Path(temp_dir) / "single")
            many = run(connection, max(args.cells // 10, 6), MANY_EPOCHS, Path(temp_dir) / "many")
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)
    found: Mapping[str, Any] = {
        **origin(),
        "cells": args.cells,
        "slots": args.slots,
        **figures(single, many, MANY_EPOCHS),
    }
    write_text(args.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
