"""What a command finds around it: the cluster it was pointed to, device, profile and slots, and what is amiss there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from altformer.errors import UserError
from cluster.budget import Budget
from cluster.connection import Connection, connect
from cluster.lender import Lender
from cluster.preflight_nodes import Software, check_nodes
from cluster.resources import Resources
from experiments import provenance
from experiments.cell import Cell, Machine, own_source_hash

if TYPE_CHECKING:
    from altformer.data.traffic import TrafficData

# The driver alone logs to MLflow; the package's version says less than its sources.
_NOT_DECISIVE = ("mlflow", "altformer")


def lender(address: str | None) -> Lender:
    """Who lends connections: to the cluster that was asked for, joined now, else each time to a Ray of our own."""
    asked = address or os.environ.get("RAY_ADDRESS")
    return Lender(partial(connect, None), connect(asked) if asked else None)


def settle(resources: Resources, profile: str, connection: Connection | None) -> tuple[Machine, str]:
    """The machine that cells are trained on, and the profile; ``auto`` is full with a GPU, else quick."""
    gpus = sum(node.get("GPU", 0) for node in connection.nodes) if connection else local_gpus()
    device: Literal["cpu", "cuda"] = "cuda" if gpus and resources.gpus_per_worker != 0 else "cpu"
    if profile == "auto":
        profile = "full" if device == "cuda" else "quick"
    return Machine(device, resources.cpus_per_worker, resources.workers), profile


def refuse_gpu_hours(budget: Budget, gpus: float) -> None:
    """UserError for a budget in GPU-hours where a trial holds so many GPUs, and that is none."""
    if budget.gpu_hours is not None and not gpus:
        raise UserError(f"--max-gpu-hours {budget.gpu_hours:g}: no trial holds a GPU here; use --max-hours")


def slots(resources: Resources, connection: Connection | None) -> int:
    """Trials at once: on the cluster, or on the Ray that would be started here."""
    there = nodes(connection)
    resources.check(there)
    return resources.slots(there)


def trial_gpus(resources: Resources, connection: Connection | None) -> float:
    """The GPUs that a trial holds, which may be a fraction of one."""
    settled = resources.resolved(nodes(connection))
    return settled.workers * (settled.gpus_per_worker or 0.0)


def nodes(connection: Connection | None) -> Sequence[Mapping[str, float]]:
    """The cluster's nodes, or this machine as the Ray that would be started here sees it."""
    if connection:
        return connection.nodes
    return [{"CPU": float(os.cpu_count() or 1), "GPU": float(local_gpus())}]


def local_gpus() -> int:
    """GPUs of this machine that torch can use."""
    import torch

    return torch.cuda.device_count()


def check_before_training(
    data: Iterable[TrafficData],
    out: Path,
    connection: Connection | None,
    resources: Resources,
    cells: Iterable[Cell] = (),
) -> None:
    """Before cells are trained on these readings: print what slows them down here; ClusterError for what they lack.

    The nodes of a cluster are asked whether they are alike; the ``cells`` tell which models of the user's own count.
    """
    from cluster.preflight import check_machine

    data_bytes = sum({one.identity: one.values.nbytes for one in data}.values())
    notices = check_machine(out, connection is None, data_bytes)
    if connection is not None and len(connection.nodes) > 1:
        models = [one.config.model for one in cells]
        own = sorted({model.class_path for model in models if model.type == "own"})
        notices += check_nodes(out, resources, software, own)
    for notice in notices:
        print(f"Attention: {notice}", flush=True)


def software(*own_models: str) -> Software:
    """What of this process decides numbers: its packages, and the sources that a cell's hash is over.

    UserError where a model (``package.module:Name``) is not found.
    """
    versions = {name: version for name, version in provenance.versions().items() if name not in _NOT_DECISIVE}
    sources = {"altformer": provenance.sources_hash()}
    return Software(versions, sources | {model: own_source_hash(model) for model in own_models})
