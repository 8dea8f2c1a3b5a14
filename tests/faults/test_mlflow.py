"""A matrix whose MLflow server is down at the start, comes back, is down at the end, or takes ten seconds a call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Matrix, Process, Records, same_results
from tests.faults.mlflow_server import PATIENCE, Gate, Server

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault("mlflow"), pytest.mark.timeout(900)]

SLOW = 10.0  # seconds a call
MOST_SLOWED = 0.02


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    gate = Gate(server)
    yield gate
    gate.shut()


def sync(matrix: Matrix, gate: Gate, close: Callable[[Process], Process]) -> tuple[int, str]:
    """`altformer sync`: its exit code, and what it says."""
    process = close(Process(["sync", "--out", str(matrix.out)], matrix.folder, {"MLFLOW_TRACKING_URI": gate.uri}))
    code = process.wait(PATIENCE)
    return code, process.output


def assert_all_is_logged(matrix: Matrix, server: Server, records: Records) -> int:
    """Every cell has one run with every point of its record once; returns the number of points."""
    runs = server.runs(matrix.name)
    names = {f"{arm} seed {seed}" for arm, seed in records}
    assert len(runs.keys() - names) == 1  # the matrix itself
    assert {status for status, _ in runs.values()} == {"FINISHED"}, runs
    for (arm, seed), record in records.items():
        points = runs[f"{arm} seed {seed}"][1]
        for metric in ("val_mae", "train_loss", "lr"):
            assert points[metric] == [(epoch["epoch"], epoch[metric]) for epoch in record["curve"]]
        assert points["test_mae"] == [(0, record["test"]["all"]["mae"])]
    return sum(len(points) for _, metrics in runs.values() for points in metrics.values())


def test_a_server_that_is_down_at_the_start_and_at_the_end(
    tmp_path: Path,
    server: Server,
    gate: Gate,
    close: Callable[[Process], Process],
    undisturbed: Callable[[Matrix], Records],
    fault_table: Any,
    is_long: bool,
) -> None:
    matrix = Matrix(tmp_path, epochs=8, epoch_seconds=1.0)
    env = {"MLFLOW_TRACKING_URI": gate.uri}
    process = close(matrix.start(mlflow=True, env=env))
    process.wait_for("what is not logged waits in")
    gate.open()
    process.wait_until("MLflow has epochs", lambda: any("val_mae" in points for _, points in runs_of(server, matrix)))
    gate.shut()
    in_the_middle = sum(len(points.get("val_mae", ())) for _, points in runs_of(server, matrix))
    if is_long:  # and the driver is killed meanwhile; the next one finds the server down from its start to its end
        process.wait_for_event("cell_ended")
        process.kill()
        process.close()
        process = close(matrix.start(mlflow=True, env=env))
    assert process.wait() == 0, process.output
    [told] = [line for line in process.output.splitlines() if line.startswith("MLflow at ") and "is kept in" in line]
    assert f"altformer sync --out {matrix.out}" in told
    records = matrix.records()
    assert same_results(records, undisturbed(matrix))

    if is_long:
        assert sync(matrix, gate, close)[0] == 1  # it is still down
    gate.open()
    code, said = sync(matrix, gate, close)
    assert (code, "View run" in said) == (0, False), said
    points = assert_all_is_logged(matrix, server, records)
    fault_table.row(
        fault="server down at the start, there in the middle, down at the end; then altformer sync",
        must="results as without MLflow, one line says what is kept where, every point once, every run FINISHED",
        runs=len(records) + 1,
        points=points,
        val_mae_logged_in_the_middle=in_the_middle,
    )


def runs_of(server: Server, matrix: Matrix) -> list[tuple[str, Mapping[str, Any]]]:
    """What is there so far; nothing while the first run has not got its tags."""
    try:
        return list(server.runs(matrix.name).values())
    except AssertionError:
        return []


def test_a_server_that_takes_ten_seconds_a_call(
    tmp_path: Path,
    server: Server,
    gate: Gate,
    close: Callable[[Process], Process],
    fault_table: Any,
    is_long: bool,
) -> None:
    matrix = Matrix(tmp_path, seeds=2 if is_long else 1, epochs=6, epoch_seconds=1.0, name="slow")
    gate.open(SLOW)
    clock = tmp_path / "clock.json"
    where = ["--out", str(matrix.out), "--profile", "full", "--probe-seconds", "0"]
    arguments = [str(clock), "ablate", str(matrix.file), *where]
    env = {"MLFLOW_TRACKING_URI": gate.uri}
    process = close(Process(arguments, tmp_path, env, matrix, program="tests.faults.timed_tracker"))
    assert process.wait(400) == 0, process.output
    [told] = [line for line in process.output.splitlines() if line.startswith("MLflow at ")]
    assert "it takes more time than there was" in told
    assert f"altformer sync --out {matrix.out}" in told
    records = matrix.records()
    assert [record["status"] for record in records.values()] == ["done"] * len(matrix.plan)
    spent = json.loads(clock.read_text())
    trained = max(event["t"] for event in matrix.events("cell_ended")) - min(
        event["t"] for event in matrix.events("cell_started")
    )
    assert spent["calls"] > len(records) * 6
    assert spent["seconds"] < MOST_SLOWED * trained, spent
    calls = gate.calls
    process.orphans()

    gate.open()
    began = time.monotonic()
    code, said = sync(matrix, gate, close)
    assert (code, "View run" in said) == (0, False), said
    points = assert_all_is_logged(matrix, server, records)
    figures = {"points": points, "calls_answered_during_the_run": calls, "seconds_to_sync": time.monotonic() - began}
    if is_long:
        figures["epochs_as_long_as_without_MLflow_percent"] = 100 * against_none(matrix, tmp_path / "none", close)
    fault_table.row(
        fault=f"every call to the server takes {SLOW:g} s; then altformer sync",
        must=f"the tracker takes less than {MOST_SLOWED:.0%} of the training's time, and nothing is lost",
        percent_of_the_time_in_the_tracker=100 * spent["seconds"] / trained,
        ms_a_call=1000 * spent["seconds"] / spent["calls"],
        **figures,
    )


def against_none(matrix: Matrix, folder: Path, close: Callable[[Process], Process]) -> float:
    """The epochs' seconds as a multiple of those of the same matrix without MLflow."""
    process = close(matrix.start("--no-mlflow", out=folder))
    assert process.wait(400) == 0, process.output
    seconds = [
        sum(
            epoch["epoch_seconds"]
            for path in out.glob("cells/*/record.json")
            for epoch in json.loads(path.read_text())["curve"]
        )
        for out in (matrix.out, folder)
    ]
    return seconds[0] / seconds[1]
