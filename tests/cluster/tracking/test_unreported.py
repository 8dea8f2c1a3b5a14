"""Epochs that the driver has not heard of: an attempt ended between checkpoint and report, or another process ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from cluster.tracking.location import StoreLocation
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.work import Ended, Work

MATRIX = MatrixRun("depth-ab12", "depth", {"arms": 2})
PATIENCE = 120.0
EPOCHS = 5
CURVE = [{"epoch": epoch, "val_mae": 1.0 / epoch} for epoch in range(1, EPOCHS + 1)]
POINTS = {"val_mae": [(epoch, 1.0 / epoch) for epoch in range(1, EPOCHS + 1)], "test_mae": [(0, 2.0)]}
CELL = Work("hash-a", "a", {})


def attempt(track: Tracker, cell: Work, epochs: Iterable[int]) -> None:
    track.cell_started(cell)
    for epoch in epochs:
        track.cell_epoch(cell, CURVE[epoch - 1])


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ([(1, 2), (4, 5)], "done"),  # the first has saved epoch 3
        ([(1, 2), (4, 5)], "stopped"),
        ([(1, 2), (2, 3, 5)], "done"),
        ([(1, 2, 3, 4), ()], "done"),  # only the test set was left for the second
        ([()], "done"),  # another process has trained it meanwhile
        ([], "done"),
    ],
)
def test_epochs_that_were_not_reported_come_with_the_result(
    location: StoreLocation, database: Any, attempts: list[tuple[int, ...]], status: str
) -> None:
    with Tracker(location, MATRIX) as track:
        for epochs in attempts:
            attempt(track, CELL, epochs)
        track.cell_ended(CELL, Ended(status, {"curve": CURVE, "test_mae": 2.0}))
        assert track.close(PATIENCE)
        assert track.problem is None
    assert database.points("a") == POINTS


def test_a_cell_that_goes_on_in_a_later_session_has_every_epoch_once(location: StoreLocation, database: Any) -> None:
    for epochs, result in (((1, 2), {"curve": CURVE[:2]}), ((4, 5), {"curve": CURVE, "test_mae": 2.0})):
        with Tracker(location, MATRIX) as track:
            attempt(track, CELL, epochs)
            track.cell_ended(CELL, Ended("done" if len(result) > 1 else "interrupted", result))
            assert track.close(PATIENCE)
    assert database.points("a") == POINTS


@pytest.mark.parametrize("curve", [[{"val_mae": 1.0}], [None], "no curve"])
def test_a_result_with_another_curve_is_logged_without_it(location: StoreLocation, database: Any, curve: Any) -> None:
    with Tracker(location, MATRIX) as track:
        attempt(track, CELL, range(1, EPOCHS + 1))
        track.cell_ended(CELL, Ended("done", {"curve": curve, "test_mae": 2.0}))
        assert track.close(PATIENCE)
    assert database.points("a") == POINTS


def test_a_cell_whose_epochs_were_all_reported_costs_no_further_call(
    location: StoreLocation, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    calls: list[str] = []
    for method in ("log_batch", "get_metric_history", "get_run", "search_runs"):
        monkeypatch.setattr(MlflowClient, method, _counted(getattr(MlflowClient, method), calls))
    made = []
    with Tracker(location, None) as track:
        for name, result in (("a", {"test_mae": 2.0}), ("b", {"test_mae": 2.0, "curve": CURVE})):
            cell = Work(name, name, {})
            attempt(track, cell, range(1, EPOCHS + 1))
            assert track.flush(PATIENCE)
            calls.clear()
            track.cell_ended(cell, Ended("done", result))
            assert track.flush(PATIENCE)
            made.append(list(calls))
    assert made[0] == made[1]


def _counted(call: Any, calls: list[str]) -> Any:
    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(call.__name__)
        return call(*arguments, **named)

    return counted


@pytest.mark.parametrize("status", ["done", "diverged", "stopped"])
def test_a_cell_whose_end_was_not_heard_of_is_completed_by_the_next_run(
    location: StoreLocation, database: Any, status: str
) -> None:
    """The driver was killed; the cell has written its record. MLflow's KILLED is an interrupted one's status too."""
    with Tracker(location, MATRIX) as track:
        track.matrix_started([CELL], 1)
        attempt(track, CELL, (1, 2))
    assert database.tags("a")["status"] == "interrupted"
    for _ in range(2):
        with Tracker(location, MATRIX) as track:
            track.record_finished(CELL, CURVE, {"test_mae": 2.0}, status)
            assert track.close(PATIENCE)
    assert database.points("a") == POINTS
    assert database.tags("a")["status"] == status
