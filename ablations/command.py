"""``altformer ablate``: plan one matrix or several, run them, report on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from ablations.arms import WINDOWS
from ablations.matrix import Matrix, load_matrices
from ablations.surroundings import add_surroundings, connect, given_resources, ray_address, settle, slots
from altformer.errors import UserError
from experiments.compose import parse_setting
from experiments.dataset_choice import AT_HAND, choose_datasets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="MATRIX",
        help="matrix YAML: a path, or a shipped one by name (depth, fusion, lr, ...); all: every shipped one",
    )
    parser.add_argument(
        "--dataset",
        help="data set (default: the base experiment's); auto: METR-LA, else simulated; several with commas; "
        "at-hand: every known one whose file is there",
    )
    parser.add_argument("--seeds", type=int, help="seeds 0..N-1 (default: the matrix's)")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field in every arm")
    parser.add_argument("--scheduler", choices=("none", "asha"), help="early stopping (default: the matrix's)")
    add_surroundings(parser, "matrix")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and run nothing")


def run(args: argparse.Namespace) -> int:
    """Plan, run, report; exit code 0 all done, 1 some failed, 2 bad configuration, 130 / 143 interrupted."""
    from ablations.several import make_group
    from ablations.summary import print_group

    matrices = [_with_options(matrix, args) for matrix in load_matrices(args.files)]
    name = "all" if "all" in args.files else "several"
    with ExitStack() as stack:
        connection = stack.enter_context(connect(args.address)) if ray_address(args) else None
        groups = []
        for dataset in _datasets(args.dataset):
            plans = _plans(matrices, args, dataset, connection)
            groups.append(make_group(name, plans, args.out))
            print_group(groups[-1], slots(matrices[0].resources, connection))
        if args.dry_run:
            return 0
        return _run_groups(groups, args, connection)


def _run_groups(groups: Sequence[Any], args: argparse.Namespace, connection: Any) -> int:
    """Data set after data set, then the table over all of them where it is asked for."""
    from ablations.several import run_group, write_table
    from ablations.summary import print_finished

    finished = []
    for group in groups:
        finished.append(run_group(group, partial(connect, None), None if args.no_mlflow else args.out, connection))
        print_finished(finished[-1])
        if finished[-1].interrupted:
            break
    else:
        asked = (args.dataset or "").strip() == AT_HAND or any(plan.matrix.paper_table for plan in groups[0].plans)
        if asked or len(groups) > 1:
            print("Table over all data sets: " + ", ".join(map(str, write_table(finished, args.out))))
    return max(one.exit_code for one in finished)


def _datasets(text: str | None) -> list[str | None]:
    """The data sets asked for, with a sentence about each; None is the base experiment's own."""
    if text is None:
        return [None]
    names: list[str | None] = []
    for name, sentence in choose_datasets(text):
        names.append(name)
        print(sentence, flush=True)
    return names


def _plans(matrices: Sequence[Matrix], args: argparse.Namespace, dataset: str | None, connection: Any) -> list[Any]:
    """The matrices on one data set, whose readings are loaded once."""
    loaded: dict[str, Any] = {}
    return [_plan(matrix, args, dataset, connection, loaded) for matrix in matrices]


def _plan(
    matrix: Matrix, args: argparse.Namespace, dataset: str | None, connection: Any, loaded: dict[str, Any]
) -> Any:
    """Settle what is automatic (device, profile, seeds) and resolve the matrix to cells."""
    from ablations.plan import compose_with, make_plan
    from altformer.data.datasets import load

    machine, profile = settle(matrix.resources, args.profile, connection)
    seeds = matrix.seeds.of(profile) if args.seeds is None else args.seeds
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    settings = dict(map(parse_setting, args.set))
    source = compose_with(matrix.of(profile), settings, dataset=dataset, profile=profile).dataset
    readings = source.model_dump_json(exclude=set(WINDOWS))
    if readings not in loaded:
        loaded[readings] = load(source)
    return make_plan(
        matrix,
        loaded[readings],
        machine,
        dataset=dataset,
        profile=profile,
        settings=settings,
        seeds=seeds,
        out=args.out,
        keep_seeds=True,
    )


def _with_options(matrix: Matrix, args: argparse.Namespace) -> Matrix:
    """The matrix with the scheduler and resources given on the command line."""
    changes: dict[str, Any] = {"resources": given_resources(matrix.resources, args)}
    if args.scheduler and args.scheduler != matrix.scheduler.type:
        changes["scheduler"] = args.scheduler
    return matrix.changed(changes)
