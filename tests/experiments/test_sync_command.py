"""What could not be logged is brought to MLflow later."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.location import resolve
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.work import Ended, Outcome, Work
from experiments.cli import main

WORK = Work("hash-0", "low seed 0", {})


@pytest.fixture
def spooled(tmp_path: Path, monkeypatch: Any) -> Path:
    """The folder of a run whose server was away: all that it logged waits there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    track = Tracker(resolve(tmp_path), MatrixRun("rates-1", "rates"))
    track.matrix_started([WORK], 1)
    track.cell_started(WORK)
    track.cell_epoch(WORK, {"epoch": 1, "val_mae": 3.0})
    track.cell_ended(WORK, Ended("done", {"test_mae": 2.0}))
    track.matrix_ended(Outcome({}, (), None, 1, 1.0))
    track.close(30.0)
    return tmp_path


def test_it_brings_over_what_waits_and_says_so(spooled: Path, capsys: Any, monkeypatch: Any) -> None:
    """First the server is still away, then another store is named."""
    [waiting] = (spooled / "mlflow-spool").glob("*.jsonl")
    count = len(waiting.read_text().splitlines()) - 1
    assert main(["sync", "--out", str(spooled)]) == 1
    printed = capsys.readouterr().out
    assert "Brought over: 0 runs' files with 0 records" in printed
    assert f"Left: {waiting} ({count} records)" in printed and "Why: " in printed and waiting.is_file()

    database = f"sqlite:///{spooled}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert main(["sync", "--out", str(spooled)]) == 0
    printed = capsys.readouterr().out
    assert f"1 run's file with {count} records for MLflow at {database}" in printed
    assert f"Brought over: 1 run's file with {count} records" in printed and not waiting.exists()
    from mlflow import MlflowClient

    client = MlflowClient(database)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {run.info.run_name: run.info.status for run in runs} == {"rates": "FINISHED", "low seed 0": "FINISHED"}
    [cell] = [run for run in runs if run.info.run_name == "low seed 0"]
    assert cell.data.metrics == {"val_mae": 3.0, "test_mae": 2.0}

    assert main(["sync", "--out", str(spooled)]) == 0
    assert "Nothing waits for MLflow" in capsys.readouterr().out


def test_a_file_that_is_being_written_and_one_that_is_none_are_left(
    spooled: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    [waiting] = (spooled / "mlflow-spool").glob("*.jsonl")
    (waiting.parent / "odd.jsonl").write_text("nonsense\n")
    with waiting.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["sync", "--out", str(spooled)]) == 1
    printed = capsys.readouterr().out
    assert f"Left: {waiting} (" in printed and "odd.jsonl (0 records)" in printed
