"""kill -9 of a trial's process, of a DDP rank, and of the driver: cells go on from their last checkpoint."""

from __future__ import annotations

import os
import random
import re
import time
from itertools import pairwise

import pytest

from tests.faults.harness import Matrix, same_results
from tests.faults.process import Process

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN = 15.0  # seconds from detection until the cell has a slot again


def assert_resumed(matrix, cell_hash, at_least):
    """The cell's last attempt went on from a checkpoint, and no epoch was trained twice."""
    attempts = matrix.attempts(cell_hash)
    assert len(attempts) == 2, matrix.log(cell_hash)
    before = max(attempts[0].epochs, default=0)
    assert attempts[1].resumed_after >= max(before, at_least), matrix.log(cell_hash)
    return before


def seconds_to_resume(matrix, cell_hash):
    """From the retry of a cell, which is told when the loss is noticed, to its next start."""
    [retried] = matrix.events("cell_retried", cell=cell_hash)
    again = [event["t"] for event in matrix.events("cell_started", cell=cell_hash) if event["t"] >= retried["t"]]
    return again[0] - retried["t"]


@pytest.mark.fault("kill")
def test_a_killed_trial_resumes(tmp_path, close, undisturbed, fault_table):
    matrix = Matrix(tmp_path, seeds=2, epochs=8, epoch_seconds=0.5)
    process = close(matrix.start())
    epoch = process.wait_for_event("cell_epoch", epoch=3)
    [started] = [line for line in matrix.log(epoch["cell"]) if line.startswith("INFO started")]
    killed = time.time()
    process.kill(int(re.findall(r"pid (\d+)", started)[0]))
    process.wait_for_event("cell_retried")
    matrix.hurry()
    assert process.wait() == 0, process.output
    [retried] = matrix.events("cell_retried")
    assert (retried["cell"], retried["fault"], retried["retries"]) == (epoch["cell"], "died", 1), retried
    resumed = seconds_to_resume(matrix, epoch["cell"])
    assert resumed <= WITHIN
    before = assert_resumed(matrix, epoch["cell"], at_least=3)
    same_results(matrix.records(), undisturbed(matrix))
    assert matrix.events("cell_ended", cell=epoch["cell"])[0]["retries"] == 1
    assert process.orphans(agents=True) == {}
    fault_table.row(
        "kill -9 of one of two trials' processes",
        "detected to resumed at most 15 s, no epoch trained twice, all four cells bit-equal",
        seconds_to_detect=retried["t"] - killed,
        seconds_to_resume=resumed,
        resumed_after_epoch=before,
    )


@pytest.mark.fault("kill")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a trial of two DDP workers needs two cores")
def test_a_killed_rank_takes_its_trial_back_to_the_checkpoint(tmp_path, close, undisturbed, fault_table):
    matrix = Matrix(tmp_path, arms={"low": {"lr": 1e-3}}, epochs=8, epoch_seconds=0.5, resources={"workers": 2})
    process = close(matrix.start())
    epoch = process.wait_for_event("cell_epoch", epoch=3)
    ranks = process.pids_of("ray::RayTrainWorker")
    assert len(ranks) == 2, process.processes()
    killed = time.time()
    process.kill(ranks[-1])
    process.wait_for_event("cell_retried")
    matrix.hurry()
    assert process.wait() == 0, process.output
    [retried] = matrix.events("cell_retried")
    assert (retried["cell"], retried["fault"]) == (epoch["cell"], "died"), retried
    resumed = seconds_to_resume(matrix, epoch["cell"])
    assert resumed <= WITHIN
    before = assert_resumed(matrix, epoch["cell"], at_least=3)
    same_results(matrix.records(), undisturbed(matrix))
    assert process.orphans(agents=True) == {}
    fault_table.row(
        "kill -9 of one of a trial's two DDP ranks",
        "detected to resumed at most 15 s, no epoch trained twice, bit-equal",
        seconds_to_detect=retried["t"] - killed,
        seconds_to_resume=resumed,
        resumed_after_epoch=before,
    )


def moments(kills, dice):
    """Where a run is killed, in order: (what it waits for, seconds after that); from the start to the report."""
    at_start = max(1, kills // 5)
    at_end = max(1, kills // 7)
    starts = [
        ("start", dice.uniform(0, 2)) if dice.random() < 0.5 else ("ray", dice.uniform(0, 4)) for _ in range(at_start)
    ]
    training = [(dice.randint(1, 4), dice.uniform(0, 0.4)) for _ in range(kills - at_start - at_end)]
    return [*starts, *training, *[("report", dice.uniform(0, 0.5)) for _ in range(at_end)]]


def wait_for_moment(matrix, process, at):
    """Wait until a run is where it is to be killed."""
    if at == "ray":
        process.wait_for("^Results:")  # and now Ray is started
    elif at == "report":
        cells = 8
        process.wait_for("^Results:|nothing to run")
        process.wait_until("every cell has its record", lambda: len(matrix.records()) == cells, 180)
    elif at != "start":
        process.wait_until(
            f"{at} epochs are reported",
            lambda: sum(event["t"] >= process.started for event in matrix.events("cell_epoch")) >= at,
        )


def assert_little_lost(matrix):
    """No attempt went back by more than the epoch that was the last; returns how many were trained twice."""
    twice = 0
    for at in matrix.plan:
        attempts = matrix.attempts(at["cell_hash"])
        for before, after in pairwise(attempts):
            reached = max([before.resumed_after, *before.epochs])
            assert reached - after.resumed_after <= 1, matrix.log(at["cell_hash"])
            twice += reached - after.resumed_after
    return twice


@pytest.mark.fault("driver")
@pytest.mark.timeout(1800)
def test_a_killed_driver_goes_on(tmp_path, close, undisturbed, fault_table, is_long):
    kills = 20 if is_long else 3
    matrix = Matrix(tmp_path, seeds=4, epochs=10, epoch_seconds=0.4)
    killed: list[Process] = []
    finished: dict[str, int] = {}  # attempts at cells that have a record
    for at, after in moments(kills, random.Random(5)):
        process = close(matrix.start(mlflow=True))
        wait_for_moment(matrix, process, at)
        time.sleep(after)
        assert process.popen.poll() is None, f"ended before it was killed at {at}: {process.output}"
        process.kill()
        process.popen.wait()
        assert process.orphans() == {}, f"killed at {at}"
        killed.append(process)
        for planned in matrix.plan if list(matrix.out.glob("faults-*/plan.json")) else []:
            if (matrix.cell_folder(planned["cell_hash"]) / "record.json").is_file():
                finished.setdefault(planned["cell_hash"], len(matrix.attempts(planned["cell_hash"])))
    matrix.hurry()
    process = close(matrix.start(mlflow=True))
    assert process.wait() == 0, process.output
    for each in [*killed, process]:
        assert each.orphans(timeout=90, agents=is_long) == {}
    assert {key: len(matrix.attempts(key)) for key in finished} == finished, "a finished cell was run again"
    twice = assert_little_lost(matrix)
    same_results(matrix.records(), undisturbed(matrix))
    runs = matrix.mlflow_runs()  # which fails when one is there twice
    cells = {f"{at['arm']} seed {at['seed']}" for at in matrix.plan}
    assert cells <= runs.keys() and len(runs) == len(cells) + 1 and set(runs.values()) == {"FINISHED"}, runs
    fault_table.row(
        f"kill -9 of the driver {kills} times, from start-up to report; then the same command once more",
        "no finished cell run again, at most one epoch of a running cell trained twice for each kill, nothing "
        "orphaned, MLflow has each cell once and none RUNNING, results bit-equal",
        kills=kills,
        attempts=sum(len(matrix.attempts(at["cell_hash"])) for at in matrix.plan),
        epochs_trained_twice=twice,
        orphans=0,
    )
