"""Cells on a cluster of two nodes of two CPUs: where they run, what of the data is where, and that groups find room."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.nodes import Nodes
from cluster.work import Listener
from tests.cluster.nodes.cells import DATA, most_at_once, run
from tests.cluster.nodes.driver import driver
from tests.faults.local_cluster import LocalCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as made:
        made.add(cpus=2)
        made.add(cpus=2)
        yield made


@pytest.fixture(scope="module")
def connection(cluster):
    with driver(cluster.address, cluster.environment) as connected:
        yield connected


class Stores(Listener):
    """Bytes in each node's object store, by the node's address: the most that was seen at the end of an epoch."""

    def __init__(self):
        self.most = Counter()

    def cell_epoch(self, work, metrics):
        from ray._private.internal_api import node_stats

        for node in Nodes().staying.values():
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
            address = node["NodeManagerAddress"]
            self.most[address] = max(self.most[address], stats.store_stats.object_store_bytes_used)


def test_cells_spread_over_nodes_which_hold_the_data_once(connection, cluster, tmp_path):
    stores = Stores()
    outcome = run(connection, tmp_path / "storage", 12, [stores])
    results = [ended.result for ended in outcome.ended.values()]
    assert [ended.status for ended in outcome.ended.values()] == ["done"] * 12
    used = Counter(node for result in results for node in result["nodes"])
    assert len(used) == 2 and min(used.values()) >= 3, used
    assert outcome.slots == 4
    assert most_at_once(results) == (4, 2)
    assert {result["own"] for result in results} == {(False, False)}, "read where they are, and not to be written to"
    size = DATA.nbytes
    assert len(stores.most) == 3, "the head's too, where the driver is"
    assert stores.most.keys() >= {node.address for node in cluster.nodes}
    for address, most in stores.most.items():
        assert size <= most < 1.5 * size, f"{most / size:.2f} copies on {address}, with up to 8 cells there"


@pytest.mark.parametrize("placement", ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
def test_two_groups_of_two_on_four_slots_never_wait_for_each_other(connection, tmp_path, placement):
    """A group that took one CPU and waited for the other while another one does so too would wait for ever."""
    outcome = run(connection, tmp_path / "storage", 5, seconds=1.0, workers=2, placement=placement)
    assert outcome.slots == 2
    assert [ended.status for ended in outcome.ended.values()] == ["done"] * 5, outcome
    results = [ended.result for ended in outcome.ended.values()]
    assert {result["met"] for result in results} == {2}
    together, on_a_node = most_at_once(results)
    assert together == 2 and on_a_node <= 2
    spans = {len(set(result["nodes"])) for result in results}
    expected = {"STRICT_PACK": {1}, "STRICT_SPREAD": {2}}
    assert spans == expected.get(placement, spans)
