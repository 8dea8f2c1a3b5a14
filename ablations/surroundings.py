"""What a command finds around it: the cluster it was pointed to, and with it device, profile and slots."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ablations.matrix import Matrix
from altformer.errors import UserError
from cluster.budget import Budget
from cluster.preflight_nodes import Software, check_nodes
from cluster.resources import Resources
from cluster.retries import Retries
from experiments import provenance
from experiments.cell import Cell, Machine, own_source_hash

if TYPE_CHECKING:
    from altformer.data.traffic import TrafficData
    from cluster.connection import Connection

# The driver alone logs to MLflow; the package's version says less than its sources.
_NOT_DECISIVE = ("mlflow", "altformer")


def add_surroundings(parser: argparse.ArgumentParser, owner: str) -> None:
    """Declare the options of every command that runs cells; ``owner`` has the resources where nothing is said."""
    parser.add_argument("--profile", default="auto", help="quick, full or auto: full with a GPU, else quick")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of everything written (default: runs)")
    parser.add_argument("--address", help="Ray cluster: auto, host:port or ray:// (default: RAY_ADDRESS, else own)")
    parser.add_argument("--workers", type=int, help=f"DDP workers per trial (default: the {owner}'s)")
    parser.add_argument("--cpus-per-worker", type=int, help=f"CPU threads per worker (default: the {owner}'s)")
    parser.add_argument("--gpus-per-worker", type=float, help="GPUs per worker; a fraction with one worker only")
    parser.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help="how often a cell is tried again whose process died, hung or lacked memory (default: 3; 0: never)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse where a cell that was done would run again, since code, configuration, data or machine changed",
    )
    parser.add_argument("--no-mlflow", action="store_true", help="do not log to MLflow")


def ray_address(args: argparse.Namespace) -> str | None:
    """The cluster that was asked for; None: a Ray of our own, started when there is a cell to run."""
    return args.address or os.environ.get("RAY_ADDRESS")


def connect(address: str | None) -> Connection:
    """The connection to a cluster, or a Ray of our own."""
    from cluster.connection import connect

    return connect(address)


def settle(resources: Resources, profile: str, connection: Connection | None) -> tuple[Machine, str]:
    """The machine that cells are trained on, and the profile; ``auto`` is full with a GPU, else quick."""
    gpus = sum(node.get("GPU", 0) for node in connection.nodes) if connection else local_gpus()
    device: Literal["cpu", "cuda"] = "cuda" if gpus and resources.gpus_per_worker != 0 else "cpu"
    if profile == "auto":
        profile = "full" if device == "cuda" else "quick"
    return Machine(device, resources.cpus_per_worker, resources.workers), profile


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Declare ``--max-hours``, ``--max-gpu-hours`` and ``--max-cells``."""
    parser.add_argument("--max-hours", type=float, metavar="H", help="leave after so many hours; exit code 3")
    parser.add_argument("--max-gpu-hours", type=float, metavar="H", help="likewise, hours times the GPUs in use")
    parser.add_argument("--max-cells", type=int, metavar="N", help="start at most so many cells; exit code 3")


def given_budget(args: argparse.Namespace) -> Budget:
    """The budget of the command line; UserError for a limit that leaves nothing or is no number."""
    for option in ("max_hours", "max_gpu_hours"):
        value = getattr(args, option)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UserError(f"--{option.replace('_', '-')} takes a number of hours above 0, got {value:g}")
    if args.max_cells is not None and args.max_cells < 1:
        raise UserError(f"--max-cells must be at least 1, got {args.max_cells}")
    return Budget(args.max_hours, args.max_gpu_hours, args.max_cells)


def refuse_gpu_hours(budget: Budget, gpus: float) -> None:
    """UserError for a budget in GPU-hours where a trial holds so many GPUs, and that is none."""
    if budget.gpu_hours is not None and not gpus:
        raise UserError(f"--max-gpu-hours {budget.gpu_hours:g}: no trial holds a GPU here; use --max-hours")


def given_resources(resources: Resources, args: argparse.Namespace) -> dict[str, Any]:
    """The resources with what the command line says of them, as a mapping to be validated."""
    names = ("workers", "cpus_per_worker", "gpus_per_worker")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return {**resources.model_dump(), **given}


def given_retries(retries: Retries, args: argparse.Namespace) -> Retries:
    """How often cells are tried again, with what the command line says of it."""
    if args.retries is None:
        return retries
    if args.retries < 0:
        raise UserError(f"--retries must be 0 or more, got {args.retries}")
    return retries.model_copy(update={"per_cell": args.retries})


def with_options(matrix: Matrix, args: argparse.Namespace) -> Matrix:
    """The matrix with the scheduler, resources and retries given on the command line."""
    changes: dict[str, Any] = {
        "resources": given_resources(matrix.resources, args),
        "retries": given_retries(matrix.retries, args),
    }
    if args.scheduler and args.scheduler != matrix.scheduler.type:
        changes["scheduler"] = args.scheduler
    return matrix.changed(changes)


def mlflow_out(args: argparse.Namespace) -> Path | None:
    """The folder that MLflow's files go below; None: nothing is logged."""
    out: Path = args.out
    return None if args.no_mlflow else out


def given_seeds(args: argparse.Namespace) -> int | None:
    """How many seeds the command line asks for, if it does; UserError for none."""
    if args.seeds is not None and args.seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {args.seeds}")
    seeds: int | None = args.seeds
    return seeds


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
