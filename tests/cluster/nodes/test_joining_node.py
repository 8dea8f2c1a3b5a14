"""A node that joins while a matrix runs."""

from __future__ import annotations

import pytest

from cluster.work import Listener
from tests.cluster.nodes.cells import most_at_once, run
from tests.cluster.nodes.driver import driver
from tests.faults.local_cluster import LocalCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class WhenBegun(Listener):
    """Does something at the first epoch, in the driver."""

    def __init__(self, do):
        self._do, self.said, self.slots = do, [], []

    def cell_epoch(self, work, metrics):
        do, self._do = self._do, lambda: None
        do()

    def slots_changed(self, slots):
        self.slots.append(slots)

    def notice(self, text):
        self.said.append(text)


def test_a_node_that_joins_takes_cells_at_once(tmp_path):
    """What is elastic is the number of cells: that of a cell's workers is part of what it is."""
    with LocalCluster(tmp_path) as growing:
        growing.add(cpus=1)
        with driver(growing.address, growing.environment) as connection:
            joins = WhenBegun(lambda: growing.add(cpus=1))
            outcome = run(connection, tmp_path / "storage", 6, [joins], epochs=10, seconds=1.0)
    results = [ended.result for ended in outcome.ended.values()]
    assert outcome.slots == 1
    assert joins.said == ["2 cells at once from now on, after 1"]
    assert joins.slots == [2]
    assert len({node for result in results for node in result["nodes"]}) == 2
    assert most_at_once(results) == (2, 1)
