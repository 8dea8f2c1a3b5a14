import sys
import time

import numpy as np
import pytest

from cluster.connection import connect
from cluster.resources import Resources
from cluster.tasks import call_on_cluster

pytestmark = pytest.mark.ray


def work(seconds, shared):
    if seconds < 0:
        raise ValueError("no time")
    time.sleep(seconds)
    return seconds * float(shared.sum())


def test_calls_come_back_in_order_and_late_or_failed_ones_as_none():
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connect("local", dashboard=False, num_cpus=2) as connection:
        resources = Resources().resolved(connection.nodes)
        began = time.monotonic()
        found = call_on_cluster(work, [0.1, -1.0, 60.0, 0.2], np.ones(10), resources, 15.0)
        assert found == [1.0, None, None, 2.0]
        assert time.monotonic() - began < 40, "nobody waits for the late one"
