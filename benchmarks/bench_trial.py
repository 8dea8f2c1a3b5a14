"""How long is a slot busy with anything but training?

    python -m benchmarks.bench_trial [--cells 12] [--epochs 3] [--seconds 1] [--workers 1 2] [--out FILE]

Cells of made-up training (matrix products on one thread for the given seconds an epoch) run in as many slots as the
machine has CPUs, through the same `run_cells` as a matrix. Each cell notes when its train function was entered and
left, and how long its reports waited for the decision to go on. A warm cell's overhead is the time since its slot's
former cell left its train function, plus those waits; cold is what comes before the first cell of the first slot.
Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.connection import Connection, connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import TrialContext, Work

GOAL = 0.5


def train(payload: dict[str, Any], shared: Any, context: TrialContext) -> dict[str, Any]:
    """One made-up cell; its times are on the machine's clock, which all processes share."""
    import torch

    began, waits = time.time(), []
    matrix = torch.full((256, 256), 1 / 256)
    for epoch in range(1, payload["epochs"] + 1):
        until = time.perf_counter() + payload["seconds"]
        while time.perf_counter() < until:
            matrix = matrix @ matrix
        reported = time.perf_counter()
        context.report({"epoch": epoch, "val_mae": 1.0 / epoch})
        waits.append(time.perf_counter() - reported)
    # The pages of `shared` are looked at, as a real cell does.
    return {"began": began, "ended": time.time(), "waits": waits, "slot": os.getpid(), "sum": float(shared.sum())}


def measure(connection: Connection, workers: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the cells and take the overheads apart."""
    import torch

    payload = {"epochs": args.epochs, "seconds": args.seconds}
    works = [Work(f"cell{index}", f"cell {index}", payload, epochs=args.epochs) for index in range(args.cells)]
    began = time.time()
    outcome = run_cells(
        works,
        train,
        torch.zeros(args.megabytes * 250_000).numpy(),
        resources=Resources(workers=workers, gpus_per_worker=0),
        scheduler=NoScheduler(),
        connection=connection,
        storage=folder,
    )
    ended = time.time()
    errors = [end.error for end in outcome.ended.values() if end.error]
    if errors:
        raise SystemExit(errors[0])
    cells = sorted((end.result or {} for end in outcome.ended.values()), key=lambda cell: float(cell["began"]))
    warm, last = [], {}
    for cell in cells:
        before = last.get(cell["slot"])
        if before is not None:
            warm.append(cell["began"] - before["ended"] + sum(cell["waits"]))
        last[cell["slot"]] = cell
    waits = [wait for cell in cells for wait in cell["waits"]]
    return {
        "workers": workers,
        "slots": outcome.slots,
        "cells": len(cells),
        "epochs": args.epochs,
        "seconds_per_epoch": args.seconds,
        "warm_seconds": warm,
        "warm_mean": statistics.mean(warm),
        "warm_max": max(warm),
        "report_wait_median": statistics.median(waits),
        "first_cell_after": cells[0]["began"] - began,
        "end_after_last_cell": ended - cells[-1]["ended"],
        "matrix_seconds": ended - began,
        "goal_met": statistics.mean(warm) <= GOAL,
    }


def markdown(results: list[dict[str, Any]], connect_seconds: float) -> str:
    """The table."""
    rows = [
        "| workers per trial | slots | cells | warm overhead of a cell, mean (max) | wait of a report "
        "| first cell starts after | matrix ends after its last cell |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each['workers']} | {each['slots']} | {each['cells']} "
        f"| {each['warm_mean']:.3f} s ({each['warm_max']:.3f} s) | {each['report_wait_median'] * 1000:.1f} ms "
        f"| {each['first_cell_after']:.1f} s | {each['end_after_last_cell']:.1f} s |"
        for each in results
    ]
    first = results[0]
    verdict = "met" if first["goal_met"] else "missed"
    notes = [
        f"{first['cells']} cells of {first['epochs']} epochs of {first['seconds_per_epoch']:g} s on one thread; "
        f"a local Ray with its dashboard starts in {connect_seconds:.1f} s.",
        "A warm cell follows another in its slot. Its overhead is the slot's time from one train function to the next "
        "and what its reports waited; it contains no training.",
        f"Goal: at most {GOAL} s for a warm cell with one worker on a 2-core machine: {verdict}.",
    ]
    return "\n".join([*rows, "", *notes])


def main() -> int:
    """Measure for each number of workers in one Ray; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_trial", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of training an epoch")
    parser.add_argument("--megabytes", type=int, default=28, help="of shared data (METR-LA has 28)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    temp_dir = tempfile.mkdtemp(prefix="ray-b", dir="/tmp")
    began = time.perf_counter()
    try:
        with connect("local", temp_dir=temp_dir) as connection:
            connect_seconds = time.perf_counter() - began
            results = [measure(connection, workers, args, Path(temp_dir) / "out") for workers in args.workers]
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)
    print(markdown(results, connect_seconds))
    if args.out:
        args.out.write_text(json.dumps({"connect_seconds": connect_seconds, "results": results}, indent=1) + "\n")
    return 0 if results[0]["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
