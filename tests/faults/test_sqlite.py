"""Cells that log at the same time to one SQLite database, of one matrix and of two: every number arrives, once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.connection import connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.tracking.location import resolve
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.work import Ended, Listener, Work

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS, NAMES = 100, ("val_mae", "val_rmse", "train_loss", "lr", "epoch_seconds")
CELLS = {"one": 8, "two": 2}  # by matrix; the second is there as another process that writes


@pytest.mark.fault("sqlite")
def test_eight_cells_and_two_matrices_at_once_lose_no_metric(tmp_path: Path, fault_table: Any) -> None:
    began = time.monotonic()
    drivers = [_driver(tmp_path, name) for name in CELLS]
    said = [driver.communicate(timeout=240)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    at_once = [int(text.split()[-1]) for text in said]
    assert at_once == list(CELLS.values())  # else it was no test

    expected = {
        (f"{matrix} cell {cell}", key, step, float(value))
        for matrix, cells in CELLS.items()
        for cell in range(cells)
        for key, step, value in [
            *((name, epoch, cell * 1000 + epoch) for name in NAMES for epoch in range(1, EPOCHS + 1)),
            ("test_mae", 0, cell),
        ]
    }
    rows = sqlite3.connect(tmp_path / "mlflow.db")
    points = rows.execute("select name, key, step, value from metrics join runs using (run_uuid)").fetchall()
    statuses = rows.execute("select name, status from runs").fetchall()
    rows.close()
    assert len(points) == len(expected)
    assert set(points) == expected
    assert len(statuses) == len(CELLS) + sum(CELLS.values())
    assert {status for _, status in statuses} == {"FINISHED"}
    assert not list((tmp_path / "mlflow-spool").glob("*.jsonl"))
    fault_table.row(
        fault="8 cells log at once to SQLite, and those of a second matrix",
        must="no metric is lost and none is there twice",
        metrics=len(points),
        lost=0,
        seconds=round(time.monotonic() - began),
    )


def _driver(out: Path, name: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, __file__, str(out), name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


class _AtOnce(Listener):
    """Counts how many cells run at the same time."""

    def __init__(self) -> None:
        self.running = self.most = 0

    def cell_started(self, work: Work) -> None:
        self.running += 1
        self.most = max(self.most, self.running)

    def cell_ended(self, work: Work, ended: Ended) -> None:
        self.running -= 1


def train(payload: dict[str, Any], shared: Any, context: Any) -> dict[str, Any]:
    """Report as fast as it goes, once all cells of the matrix are there."""
    here = Path(payload["meet"])
    (here / str(payload["cell"])).touch()
    while len(list(here.iterdir())) < payload["cells"]:
        time.sleep(0.05)
    for epoch in range(1, EPOCHS + 1):
        context.report({"epoch": epoch, **dict.fromkeys(NAMES, float(payload["cell"] * 1000 + epoch))})
    return {"test_mae": float(payload["cell"])}


def drive(out: Path, name: str) -> int:
    """One matrix, each cell in a slot of its own; returns how many ran at once."""
    seen = _AtOnce()
    meet = out / f"meet-{name}"
    meet.mkdir()
    works = [
        Work(f"{name}-{k}", f"{name} cell {k}", {"cell": k, "cells": CELLS[name], "meet": str(meet)})
        for k in range(CELLS[name])
    ]
    with (
        tempfile.TemporaryDirectory(prefix="ray-m", dir="/tmp", ignore_cleanup_errors=True) as folder,
        Tracker(resolve(out), MatrixRun(name, name)) as tracker,
        connect("local", num_cpus=CELLS[name], temp_dir=folder, dashboard=False) as connection,
    ):
        run_cells(
            works,
            train,
            None,
            resources=Resources(),
            scheduler=NoScheduler(),
            connection=connection,
            storage=out / f"tune-{name}",
            listeners=[tracker, seen],
        )
        assert tracker.close(120)
    return seen.most


if __name__ == "__main__":
    print("at once:", drive(Path(sys.argv[1]), sys.argv[2]))
