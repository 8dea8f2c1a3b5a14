"""A node that is lost with the trials on it."""

from __future__ import annotations

import time

import pytest

from tests.faults.harness import Matrix, same_results
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
