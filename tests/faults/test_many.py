"""Hundreds of short cells: every one recorded once, slots that seldom wait, a driver that does not grow."""

from __future__ import annotations

import csv
import os
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Matrix, Process

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS, STEPS = 4, 200  # about a second: of work, not of sleep, so that a busy machine slows all of it alike
MOST_IDLE, MOST_GROWTH = 0.35, 1.0  # of the slots' time; MB for each cell


@pytest.mark.fault("many")
@pytest.mark.timeout(1500)
def test_every_one_of_many_cells_is_recorded_once(
    tmp_path: Path, close: Callable[[Process], Process], fault_table: Any, is_long: bool
) -> None:
    arms, seeds = (6, 50) if is_long else (4, 10)
    matrix = Matrix(
        tmp_path,
        arms={f"lr={lr}": {"lr": lr} for lr in (0.001 * (k + 1) for k in range(arms))},
        seeds=seeds,
        epochs=EPOCHS,
        name="many",
        settings={"steps_per_epoch": STEPS},
    )
    cells = arms * seeds
    process = close(matrix.start(mlflow=True))
    with resident(process.pid) as memory:
        assert process.wait(1200) == 0, process.output
    ended = time.time()

    records = matrix.records()
    assert len(records) == cells
    assert {record["status"] for record in records.values()} == {"done"}
    names = {f"{arm} seed {seed}" for arm, seed in records}
    for kind in ("cell_started", "cell_ended"):
        assert Counter(event["name"] for event in matrix.events(kind)) == dict.fromkeys(names, 1)
    in_mlflow = logged(matrix.out / "mlflow.db")
    parents = in_mlflow.keys() - names
    assert (len(in_mlflow), len(parents)) == (cells + 1, 1)
    assert {status for status, _ in in_mlflow.values()} == {"FINISHED"}
    for (arm, seed), record in records.items():
        points = in_mlflow[f"{arm} seed {seed}"][1]
        assert points["val_mae"] == [(epoch["epoch"], epoch["val_mae"]) for epoch in record["curve"]]
        assert points["test_mae"] == [(0, record["test"]["all"]["mae"])]
    table = list(csv.DictReader((matrix.report_folder / "cells.csv").open()))
    assert len({row["mlflow_run_id"] for row in table} - {"", "-"}) == cells == len(table)

    figures = {**time_of(matrix, records, process.started, ended), **growth_of(matrix, memory)}
    assert figures["idle_percent"] <= 100 * MOST_IDLE, figures
    assert figures["MB_per_cell"] <= MOST_GROWTH, figures
    fault_table.row(fault=f"{cells} cells of one second", **figures)


def time_of(matrix: Matrix, records: Mapping[Any, Any], started: float, ended: float) -> dict[str, float]:
    """The part of the slots' time between the first epoch and the last cell's end in which no epoch is trained."""
    first = min(event["t"] - event["metrics"]["epoch_seconds"] for event in matrix.events("cell_epoch"))
    last = max(event["t"] for event in matrix.events("cell_ended"))
    [slots] = {event["slots"] for event in matrix.events("matrix_started")}
    worked = [sum(epoch["epoch_seconds"] for epoch in record["curve"]) for record in records.values()]
    return {
        "seconds_a_cell": statistics.mean(worked),
        "idle_percent": 100 * (1 - sum(worked) / (slots * (last - first))),
        "slots": slots,
        "seconds_before_the_first": first - started,
        "seconds_after_the_last": ended - last,
    }


def growth_of(matrix: Matrix, memory: list[tuple[float, float]]) -> dict[str, float]:
    """How much the driver grew for each of the second half of the cells: before that it imports, and afterwards also,
    for the report.
    """
    ends = sorted(event["t"] for event in matrix.events("cell_ended"))
    half = len(ends) // 2

    def at(when: float) -> float:
        return statistics.median(rss for t, rss in memory if when - 3 < t <= when)

    grown = at(ends[-1]) - at(ends[half])
    return {"MB_per_cell": grown / (len(ends) - half), "MB_at_most": max(rss for _, rss in memory)}


@contextmanager
def resident(pid: int) -> Iterator[list[tuple[float, float]]]:
    """(time, MB resident) of a process, twice a second."""
    found: list[tuple[float, float]] = []
    over = threading.Event()

    def look() -> None:
        with suppress(OSError):
            while not over.wait(0.5):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                found.append((time.time(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def logged(database: Path) -> dict[str, tuple[str, dict[str, list[tuple[int, float]]]]]:
    """By name the status of a run and, by name of the metric, the (step, value) of all its points."""
    rows = sqlite3.connect(database)
    runs = rows.execute("select run_uuid, name, status from runs where lifecycle_stage = 'active'").fetchall()
    assert len(runs) == len({name for _, name, _ in runs}), "a run is there twice"
    found: dict[str, tuple[str, dict[str, list[tuple[int, float]]]]] = {}
    names = {run: name for run, name, _ in runs}
    for _, name, status in runs:
        found[name] = (status, {})
    for run, key, step, value in rows.execute("select run_uuid, key, step, value from metrics order by step"):
        if run in names:
            found[names[run]][1].setdefault(key, []).append((step, value))
    rows.close()
    return found
