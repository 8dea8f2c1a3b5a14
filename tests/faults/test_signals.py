"""What signals do to a matrix, and a matrix that is started twice."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.faults.harness import Matrix, same_results

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def assert_flushed(matrix):
    """What is on disk is whole: the plan, the cells' table, every event, every record."""
    assert {at["arm"] for at in matrix.plan} == set(matrix.arms)
    assert (matrix.report_folder / "cells.csv").read_text().endswith("\n")
    lines = (matrix.report_folder / "events.jsonl").read_text().splitlines()
    assert lines and all(json.loads(line)["kind"] for line in lines)


@pytest.mark.fault("signals")
def test_each_signal_ends_a_run_that_the_same_command_goes_on_with(tmp_path, close, undisturbed, fault_table, is_long):
    matrix = Matrix(tmp_path, epochs=6, epoch_seconds=3.0)
    cells = {f"{arm} seed 0" for arm in matrix.arms}
    left = {}
    for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
        process = close(matrix.start(mlflow=True))
        process.wait_for_event("cell_epoch")
        sent = time.monotonic()
        process.kill(number=getattr(signal, name))
        assert process.wait(60) == code, process.output
        left[name] = time.monotonic() - sent
        assert process.orphans(agents=True) == {}
        assert "the same command goes on" in process.output and "Traceback" not in process.output
        assert matrix.events("interrupted")[-1]["t"] >= process.started
        assert matrix.events()[-1]["kind"] == "matrix_ended"
        assert_flushed(matrix)
        runs = matrix.mlflow_runs()
        assert {runs[cell] for cell in cells} == {"KILLED"} and "RUNNING" not in runs.values(), runs

    process = close(matrix.start(mlflow=True))
    process.wait_for_event("cell_epoch")
    process.kill(number=signal.SIGTERM)
    process.wait_for_event("interrupted")
    time.sleep(0.7)  # sooner it may be the same signal once more, sent to the process and to its group
    sent = time.monotonic()
    process.kill(number=signal.SIGTERM)
    assert process.wait(10) == 143, process.output
    left["twice"] = time.monotonic() - sent
    assert process.orphans() == {}
    left["nothing"] = time.monotonic() - sent
    assert_flushed(matrix)
    ended_at_once = process

    matrix.hurry()
    process = close(matrix.start(mlflow=True))
    assert process.wait() == 0, process.output
    assert process.orphans() == {}
    assert set(matrix.mlflow_runs().values()) == {"FINISHED"}
    same_results(matrix.records(), undisturbed(matrix))
    for at in matrix.plan:
        attempts = matrix.attempts(at["cell_hash"])
        trained = [epoch for attempt in attempts for epoch in attempt.epochs]
        assert len(attempts) == 4 and trained == sorted(set(trained)), "an epoch was trained twice"
    assert ended_at_once.orphans(timeout=90, agents=is_long) == {}
    fault_table.row(
        "SIGINT, then SIGTERM, then SIGTERM twice, each at a run of its own; epochs of 3 s",
        "exit 130, 143, 143; cells leave with a checkpoint; runs KILLED, FINISHED at last; no epoch trained twice",
        seconds_to_leave=f"{left['SIGINT']:.1f} and {left['SIGTERM']:.1f}",
        seconds_after_the_second=left["twice"],
        seconds_until_no_trial_lives=left["nothing"],
        orphans=0,
    )


@pytest.mark.fault("twice")
def test_the_same_matrix_started_twice_is_refused(tmp_path, close, undisturbed, fault_table):
    matrix = Matrix(tmp_path, epochs=6, epoch_seconds=1.5)
    first = close(matrix.start())
    first.wait_for_event("cell_epoch")
    asked = time.monotonic()
    second = close(matrix.start())
    assert second.wait(60) == 2, second.output
    refused = time.monotonic() - asked
    last = second.output.strip().splitlines()[-1]
    assert "this matrix is being run by another process" in last and "Traceback" not in second.output
    assert second.pids_of("ray") == [] and second.orphans() == {}
    assert first.popen.poll() is None, "the second came too late to show anything"
    matrix.hurry()
    assert first.wait() == 0, first.output
    same_results(matrix.records(), undisturbed(matrix))
    assert all(len(matrix.attempts(at["cell_hash"])) == 1 for at in matrix.plan)
    assert len(matrix.events("matrix_started")) == 1
    fault_table.row(
        "the same command again while the first trains",
        "exit 2, one sentence, no Ray started; the first ends as if alone",
        seconds_to_refuse=refused,
    )


@pytest.mark.fault("twice")
def test_matrices_that_share_cells_train_each_once(tmp_path, close, undisturbed, fault_table):
    low, mid, high = {"lr": 1e-3}, {"lr": 2e-3}, {"lr": 3e-3}
    first = Matrix(tmp_path, name="first", arms={"low": low, "high": high}, epochs=6, epoch_seconds=0.5)
    second = Matrix(tmp_path, name="second", arms={"low": low, "mid": mid}, epochs=6, epoch_seconds=0.5)
    both = [close(first.start()), close(second.start())]
    assert [process.wait() for process in both] == [0, 0], "\n".join(process.output for process in both)
    for matrix in (first, second):
        same_results(matrix.records(), undisturbed(matrix))
    hashes = {at["cell_hash"] for matrix in (first, second) for at in matrix.plan}
    assert len(hashes) == 3
    for cell_hash in hashes:
        trained = [epoch for attempt in first.attempts(cell_hash) for epoch in attempt.epochs]
        assert trained == list(range(1, 7)), f"{cell_hash}: epochs {trained}"
    fault_table.row(
        "two matrices at once with a cell in common",
        "both end with 0, every epoch of the cell trained once, results bit-equal",
        cells=len(hashes),
    )
