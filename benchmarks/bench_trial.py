"""How long is a slot busy with anything but training?

    python -m benchmarks.bench_trial [--cells 8] [--epochs 2] [--seconds 1] [--workers 1 2] [--rounds 2] [--out FILE]

Cells of made-up training (matrix products on one thread for the given seconds an epoch) run in as many slots as the
machine has CPUs, through the same `run_cells` as a matrix. Each cell notes when its train function was entered and
left, and how long its reports waited for the decision to go on. A warm cell's overhead is the time since its slot's
former cell left its train function, plus those waits; cold is what comes before the first cell, in processes that are
not there yet. Numbers of workers take turns: one is a trial in its own process, more are a worker group. Prints
Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench_pairs import Goal, Ratio, finish, load, ratio, table
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
    return {
        "slots": outcome.slots,
        "warm": warm_overheads(cells),
        "waits": [wait for cell in cells for wait in cell["waits"]],
        "cold": cells[0]["began"] - began,
        "end_after_last_cell": ended - cells[-1]["ended"],
        "matrix_seconds": ended - began,
    }


def warm_overheads(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds that each cell's slot did not train since its former cell, for cells in the order of their begin."""
    warm: list[float] = []
    last: dict[Any, Mapping[str, Any]] = {}
    for cell in cells:
        before = last.get(cell["slot"])
        if before is not None:
            warm.append(cell["began"] - before["ended"] + sum(cell["waits"]))
        last[cell["slot"]] = cell
    return warm


def joined(workers: int, rounds: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """What all rounds with so many workers have shown."""
    warm = [value for each in rounds for value in each["warm"]]
    each_cold = [each["cold"] for each in rounds for _ in each["warm"]]
    return {
        "workers": workers,
        "slots": rounds[0]["slots"],
        "cells": args.cells,
        "epochs": args.epochs,
        "seconds_per_epoch": args.seconds,
        "rounds": len(rounds),
        "warm_seconds": warm,
        "warm_mean": statistics.mean(warm),
        "warm_max": max(warm),
        "report_wait_median": statistics.median(wait for each in rounds for wait in each["waits"]),
        "cold_seconds": [each["cold"] for each in rounds],
        "cold_to_warm": asdict(ratio(each_cold, warm)),
        "end_after_last_cell": [each["end_after_last_cell"] for each in rounds],
        "matrix_seconds": [each["matrix_seconds"] for each in rounds],
    }


def goal_of(results: Sequence[Mapping[str, Any]]) -> Goal:
    """A warm cell's, with the first number of workers."""
    text = f"a warm cell costs at most {GOAL} s with {results[0]['workers']} worker on a 2-core machine"
    return Goal.at_most(text, results[0]["warm_mean"], GOAL)


def _spread(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def markdown(result: Mapping[str, Any]) -> str:
    """The table."""
    head = (
        *("workers per trial", "slots", "cells", "warm overhead of a cell, mean (max)", "wait of a report"),
        *("cold: first cell after, s in each round", "cold / warm (min .. max)", "end after the last cell, s"),
    )
    rows = [
        (
            *(each["workers"], each["slots"], each["cells"], f"{each['warm_mean']:.3f} s ({each['warm_max']:.3f} s)"),
            *(f"{each['report_wait_median'] * 1000:.1f} ms", _spread(each["cold_seconds"])),
            *(Ratio(**each["cold_to_warm"]), _spread(each["end_after_last_cell"])),
        )
        for each in result["results"]
    ]
    first = result["results"][0]
    notes = [
        f"{first['cells']} cells of {first['epochs']} epochs of {first['seconds_per_epoch']:g} s on one thread, "
        f"{first['rounds']} rounds; a local Ray with its dashboard starts in {result['connect_seconds']:.1f} s; load "
        f"{result['load']}.",
        "A warm cell follows another in its slot. Its overhead is the slot's time from one train function to the next "
        "and what its reports waited; it contains no training. Two workers and more are a worker group with DDP.",
        str(Goal(**result["goal"])),
    ]
    return "\n".join([table(head, rows), "", *notes])


def main() -> None:
    """Measure for each number of workers in one Ray."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_trial", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="of training an epoch")
    parser.add_argument("--megabytes", type=int, default=28, help="of shared data (METR-LA has 28)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    temp_dir = tempfile.mkdtemp(prefix="ray-b", dir="/tmp")
    began = time.perf_counter()
    found: dict[int, list[dict[str, Any]]] = {workers: [] for workers in args.workers}
    try:
        with connect("local", temp_dir=temp_dir) as connection:
            connect_seconds = time.perf_counter() - began
            for _ in range(args.rounds):
                for workers, rounds in found.items():
                    rounds.append(measure(connection, workers, args, Path(temp_dir) / "out"))
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)
    results = [joined(workers, rounds, args) for workers, rounds in found.items()]
    result = {"connect_seconds": connect_seconds, "results": results, "goal": asdict(goal_of(results)), "load": load()}
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
