"""Waiting until the nodes of a cluster are there, as scripts do that have only just started them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from cluster.connection import authenticate
from cluster.errors import ClusterError
from cluster.gcs import asked

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 5.0


def wait_for_nodes(address: str, nodes: int, seconds: float, check: Callable[[], None] | None = None) -> float:
    """Wait until `nodes` nodes, the head among them, have joined the cluster at `host:port`; the seconds it took.

    `check` is called at each look, and may raise when waiting makes no sense. ClusterError when the nodes are not
    there after `seconds`: how many are, or that no cluster answers; at once when the cluster has another token.
    """
    authenticate(create_token=False)
    started = time.monotonic()
    while True:
        if check is not None:
            check()
        found = _alive(address)
        taken = time.monotonic() - started
        if found is not None and found >= nodes:
            return taken
        if taken > seconds:
            there = "no Ray cluster answers there" if found is None else f"{found} are there"
            raise ClusterError(
                f"{address}: waited {seconds:g} s for {nodes} nodes, but {there}; what `ray start` prints on the "
                "missing machines says why"
            )
        time.sleep(_LOOK_SECONDS)


def _alive(address: str) -> int | None:
    """How many nodes live, as the head says; None when it says nothing in time. ClusterError when it refuses us."""

    def count(head: Any) -> int:
        states = importlib.import_module("ray.core.generated.gcs_pb2").GcsNodeInfo.GcsNodeState
        return len(head.get_all_node_info(timeout=_ANSWER_SECONDS, state_filter=states.ALIVE))

    return asked(address, count, _ANSWER_SECONDS)
