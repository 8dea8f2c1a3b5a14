"""A cluster that runs already, of two nodes: it is joined, used on both, and left as it was."""

import shutil
import sys
import tempfile

import numpy as np
import pytest

from cluster.connection import authenticate, connect
from cluster.held import leftovers
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Work

pytestmark = pytest.mark.ray


def where(payload, shared, context):
    import time

    import ray

    time.sleep(0.5)
    context.report({"epoch": 1, "val_mae": float(shared[0])})
    return {"node": ray.get_runtime_context().get_node_id(), "writeable": bool(shared.flags.writeable)}


@pytest.fixture(scope="module")
def address():
    authenticate(create_token=True)
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-c", dir="/tmp")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": folder, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_running_cluster_is_used_on_all_nodes_and_left_running(address, tmp_path, monkeypatch):
    import ray
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("RAY_ADDRESS", address)
    with connect() as connection:
        assert (connection.local, connection.address) == (False, address)
        assert sorted(node["CPU"] for node in connection.nodes) == [1.0, 1.0]
        outcome = run_cells(
            [Work(f"key{index}", f"cell {index}", {}) for index in range(6)],
            where,
            np.ones(1_000_000, dtype=np.float32),
            resources=Resources(),
            scheduler=NoScheduler(),
            connection=connection,
            storage=tmp_path,
        )
        assert leftovers() == []
    results = [ended.result for ended in outcome.ended.values()]
    assert outcome.slots == 2
    assert len({result["node"] for result in results}) == 2
    assert not any(result["writeable"] for result in results)
    with connect(address) as again:
        assert len(again.nodes) == 2
