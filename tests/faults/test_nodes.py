"""A node that is lost with the trials on it."""

from __future__ import annotations

import re
import time

import pytest

from tests.faults.harness import STEPS, Matrix, same_results
from tests.faults.local_cluster import LocalCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN = 30.0  # seconds from the loss until a cell has a slot again


@pytest.mark.fault("node")
def test_trials_of_a_lost_node_resume_elsewhere(tmp_path, close, undisturbed, fault_table):
    none = {"per_cell": 0, "per_matrix": 0}  # the loss of a node does not count
    matrix = Matrix(tmp_path, epochs=40, epoch_seconds=1.0, retries=none)
    with LocalCluster(tmp_path) as cluster:
        first = cluster.add(cpus=2)
        process = close(matrix.start("--address", cluster.address, env=cluster.environment))
        process.wait_for_event("cell_epoch", epoch=2)
        assert len(first.pids_of("ray::Trial")) == 2
        second = cluster.add(cpus=2)  # only now, so that both cells are on the first
        lost = time.time()
        first.kill()
        for at in matrix.plan:
            process.wait_for_event("cell_retried", cell=at["cell_hash"])
        matrix.hurry()
        assert process.wait() == 0, process.output
        assert second.pids_of("raylet")
    starts = {}
    for at in matrix.plan:
        [retried] = matrix.events("cell_retried", cell=at["cell_hash"])
        assert retried["fault"] == "node", retried
        starts[at["cell_hash"]] = matrix.events("cell_started", cell=at["cell_hash"])[1]["t"] - lost
        attempts = matrix.attempts(at["cell_hash"])
        assert len(attempts) == 2 and attempts[1].resumed_after >= max(attempts[0].epochs), matrix.log(at["cell_hash"])
    assert max(starts.values()) <= WITHIN
    same_results(matrix.records(), undisturbed(matrix))
    assert {event["status"] for event in matrix.events("cell_ended")} == {"done"}
    fault_table.row(
        "raylet of a node with both trials killed, another node of two CPUs there",
        "both resume there within 30 s of the kill, with no retry allowed; no epoch trained twice, results bit-equal",
        seconds_to_resume=" and ".join(f"{seconds:.1f}" for seconds in starts.values()),
    )


@pytest.mark.fault("node")
def test_trials_leave_a_node_that_is_going_to_be_taken_away(tmp_path, close, undisturbed, fault_table):
    seconds, steps = 16.0, 40  # of an epoch: much longer than the notice may take to act
    per_step = seconds / steps
    matrix = Matrix(
        tmp_path,
        epochs=4,
        epoch_seconds=per_step * STEPS,
        settings={"steps_per_epoch": steps},
        retries={"per_cell": 0, "per_matrix": 0},
    )
    with LocalCluster(tmp_path) as cluster:
        first = cluster.add(cpus=2)
        process = close(matrix.start("--address", cluster.address, env=cluster.environment))
        process.wait_until("both have begun", lambda: len(matrix.events("cell_started")) == 2)
        second = cluster.add(cpus=2)
        process.wait_for_event("cell_epoch", epoch=1)
        told = time.time()
        cluster.drain(first)
        for at in matrix.plan:
            process.wait_for_event("cell_retried", cell=at["cell_hash"])
        left = {event["name"]: event["t"] - told for event in matrix.events("cell_retried")}
        matrix.hurry()
        assert process.wait(300) == 0, process.output
        assert second.pids_of("raylet")
    assert max(left.values()) < seconds, "they leave within the epoch"
    assert "is going to be taken away: cells leave it with a checkpoint" in process.output
    for at in matrix.plan:
        log = matrix.log(at["cell_hash"])
        assert len([line for line in log if line.startswith("INFO leaves epoch")]) == 1, log
        assert len([line for line in log if re.match(r"INFO resumes after epoch \d and \d+ steps", line)]) == 1, log
        assert [event["fault"] for event in matrix.events("cell_retried", cell=at["cell_hash"])] == ["node"]
    same_results(matrix.records(), undisturbed(matrix))
    fault_table.row(
        f"notice that a node will be taken away, with both trials in epochs of {seconds:g} s",
        "both leave within the epoch with a checkpoint of it, resume on another node at that step, with no retry "
        "allowed; bit-equal",
        seconds_to_leave=" and ".join(f"{each:.1f}" for each in left.values()),
    )
