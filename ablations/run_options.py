"""The options of commands that run cells: what they are called, and what they mean for a matrix."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ablations.matrix import Matrix
from altformer.errors import UserError
from cluster.budget import Budget
from cluster.resources import Resources
from cluster.retries import Retries


def add_run_options(parser: argparse.ArgumentParser, owner: str) -> None:
    """Declare the options of every command that runs cells; ``owner`` has the resources where nothing is said."""
    parser.add_argument("--profile", default="auto", help="quick, full or auto: full with a GPU, else quick")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of everything written (default: runs)")
    parser.add_argument("--address", help="Ray cluster: auto, or its head's host:port (default: RAY_ADDRESS, else own)")
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


def given_seeds(args: argparse.Namespace) -> int | None:
    """How many seeds the command line asks for, if it does; UserError for none."""
    if args.seeds is not None and args.seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {args.seeds}")
    seeds: int | None = args.seeds
    return seeds


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
