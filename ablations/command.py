"""``altformer ablate``: plan a matrix, run it, report on it."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ablations.matrix import Matrix, load_matrix, matrix_file
from altformer.errors import UserError
from cluster.resources import Resources
from experiments.compose import compose, parse_setting
from experiments.dataset_choice import choose_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", help="matrix YAML: a path, or a shipped one by name (depth, embed_dim, fusion, lr)")
    parser.add_argument("--dataset", help="data set (default: the base experiment's); auto: METR-LA, else simulated")
    parser.add_argument("--profile", default="auto", help="quick, full or auto: full with a GPU, else quick")
    parser.add_argument("--seeds", type=int, help="seeds 0..N-1 (default: the matrix's)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of everything written (default: runs)")
    parser.add_argument("--address", help="Ray cluster: auto, host:port or ray:// (default: RAY_ADDRESS, else own)")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field in every arm")
    parser.add_argument("--scheduler", choices=("none", "asha"), help="early stopping (default: the matrix's)")
    parser.add_argument("--workers", type=int, help="DDP workers per trial (default: the matrix's)")
    parser.add_argument("--cpus-per-worker", type=int, help="CPU threads per worker (default: the matrix's)")
    parser.add_argument("--gpus-per-worker", type=float, help="GPUs per worker; a fraction with one worker only")
    parser.add_argument("--no-mlflow", action="store_true", help="do not log to MLflow")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and run nothing")


def run(args: argparse.Namespace) -> int:
    """Plan, run, report; exit code 0 all done, 1 some failed, 2 bad configuration, 130 / 143 interrupted."""
    from ablations.run import run_plan
    from ablations.summary import print_plan, print_result

    matrix = _with_options(load_matrix(matrix_file(args.file)), args)
    with ExitStack() as stack:
        connection = stack.enter_context(_connect(args.address)) if _address(args) else None
        plan = _plan(matrix, args, connection)
        slots = _slots(matrix.resources, connection)
        print_plan(plan, slots)
        if args.dry_run:
            return 0
        mlflow_out = None if args.no_mlflow else args.out
        finished = run_plan(plan, partial(_connect, None), mlflow_out, connection)
    print_result(finished)
    return finished.exit_code


def _plan(matrix: Matrix, args: argparse.Namespace, connection: Any) -> Any:
    """Settle what is automatic (data set, device, profile) and resolve the matrix to cells."""
    from ablations.plan import make_plan
    from altformer.data.datasets import load
    from experiments.cell import Machine

    dataset = None
    if args.dataset:
        dataset, sentence = choose_dataset(args.dataset)
        print(sentence, flush=True)
    gpus = sum(node.get("GPU", 0) for node in connection.nodes) if connection else _local_gpus()
    device: Literal["cpu", "cuda"] = "cuda" if gpus and matrix.resources.gpus_per_worker != 0 else "cpu"
    profile = args.profile
    if profile == "auto":
        profile = "full" if device == "cuda" else "quick"
    seeds = matrix.seeds.of(profile) if args.seeds is None else args.seeds
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    settings = dict(map(parse_setting, args.set))
    source = compose(matrix.base_file, dataset=dataset, profile=profile, settings=settings).dataset
    return make_plan(
        matrix,
        load(source),
        Machine(device, matrix.resources.cpus_per_worker, matrix.resources.workers),
        dataset=dataset,
        profile=profile,
        settings=settings,
        seeds=seeds,
        out=args.out,
    )


def _with_options(matrix: Matrix, args: argparse.Namespace) -> Matrix:
    """The matrix with the scheduler and resources given on the command line."""
    given = {
        name: value
        for name in ("workers", "cpus_per_worker", "gpus_per_worker")
        if (value := getattr(args, name)) is not None
    }
    changes: dict[str, Any] = {"resources": {**matrix.resources.model_dump(), **given}}
    if args.scheduler and args.scheduler != matrix.scheduler.type:
        changes["scheduler"] = args.scheduler
    return matrix.changed(changes)


def _address(args: argparse.Namespace) -> str | None:
    return args.address or os.environ.get("RAY_ADDRESS")


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _connect(address: str | None) -> Any:
    from cluster.connection import connect

    return connect(address)


def _slots(resources: Resources, connection: Any) -> int:
    """Trials at once: on the cluster, or on the Ray that would be started here."""
    nodes = connection.nodes if connection else [{"CPU": float(os.cpu_count() or 1), "GPU": float(_local_gpus())}]
    resources.check(nodes)
    return resources.slots(nodes)
