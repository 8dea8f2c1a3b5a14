"""Made-up cells for clusters of several nodes, with a train function that every node can import."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.connection import Connection
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Listener, Outcome, Work
from experiments.tracked_cell import train_cell

MEGABYTE = 1_000_000
DATA = np.ones(10 * MEGABYTE, dtype=np.float32)  # 40 MB; a node's store has 100


def train(payload: dict[str, Any], shared: Any, context: Any) -> dict[str, Any]:
    """Where each rank was, and from when to when; with several ranks they meet once."""
    import ray
    import torch
    import torch.distributed as dist

    began, node = time.time(), ray.get_runtime_context().get_node_id()
    nodes, met = [node], torch.ones(1)
    if context.world_size > 1:
        nodes = [""] * context.world_size
        dist.all_gather_object(nodes, node)
        dist.all_reduce(met)
    for epoch in range(1, payload["epochs"] + 1):
        time.sleep(payload["seconds"])
        context.report({"epoch": epoch, "val_mae": float(shared[epoch])})
    own = (bool(shared.flags.writeable), bool(shared.flags.owndata))
    return {"nodes": nodes, "met": int(met), "began": began, "ended": time.time(), "own": own}


def train_and_say_where(payload: dict[str, Any], shared: Any, context: Any) -> dict[str, Any]:
    """A cell of ours, with the nodes and addresses of its ranks."""
    import ray
    import torch.distributed as dist

    places = [""] * context.world_size
    dist.all_gather_object(places, ray.util.get_node_ip_address())
    return {**train_cell(payload, shared, context), "places": places}


def run(
    connection: Connection,
    storage: Path,
    cells: int,
    listeners: Sequence[Listener] = (),
    *,
    epochs: int = 2,
    seconds: float = 0.3,
    **resources: Any,
) -> Outcome:
    """The outcome of so many cells."""
    return run_cells(
        [Work(f"key{number}", f"cell {number}", {"epochs": epochs, "seconds": seconds}) for number in range(cells)],
        train,
        DATA,
        resources=Resources(gpus_per_worker=0, **resources),
        scheduler=NoScheduler(),
        connection=connection,
        storage=storage,
        listeners=listeners,
    )


def most_at_once(results: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """The largest number of cells that ran at the same time, in all and on one node."""
    moments = [result["began"] for result in results]
    running = [[one for one in results if one["began"] <= moment < one["ended"]] for moment in moments]
    on_a_node = [max(Counter(node for one in now for node in one["nodes"]).values()) for now in running]
    return max(map(len, running)), max(on_a_node)
