"""``altformer ablate``: plan one matrix or several, run them, report on them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.matrix import Matrix, load_matrices
from ablations.run_options import (
    add_budget,
    add_run_options,
    given_budget,
    given_seeds,
    mlflow_out,
    with_options,
)
from ablations.surroundings import (
    check_before_training,
    lender,
    refuse_gpu_hours,
    settle,
    slots,
    trial_gpus,
)
from altformer.errors import UserError
from cluster.budget import Budget, Spent
from cluster.errors import RayGoneError
from experiments.compose import parse_setting
from experiments.dataset_choice import AT_HAND, choose_datasets
from experiments.fields import WINDOWS
from experiments.signals import sigterm_raises

if TYPE_CHECKING:
    from ablations.drafts import Draft
    from ablations.groups import FinishedGroup, Group
    from altformer.data.traffic import TrafficData
    from cluster.connection import Connection
    from cluster.lender import Lender

PROBE_SECONDS = 60.0  # for all arms of a data set together; those not reached are guessed from the others


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
        help="data set by name (`altformer data list`), or the YAML file that has a `dataset:` of your own (default: "
        "the base experiment's); auto: METR-LA, else simulated; several with commas; at-hand: every known one whose "
        "file is there",
    )
    parser.add_argument("--seeds", type=int, help="seeds 0..N-1 (default: the matrix's)")
    parser.add_argument(
        "--undecided",
        action="store_true",
        help="with more --seeds than the report has: only for arms that it could not decide, and the baseline",
    )
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field in every arm")
    parser.add_argument(
        "--scheduler", choices=("none", "futility", "asha"), help="early stopping (default: the matrix's)"
    )
    add_run_options(parser, "matrix")
    add_budget(parser)
    parser.add_argument(
        "--probe-seconds",
        type=float,
        default=PROBE_SECONDS,
        metavar="S",
        help="time a few steps of arms without a record, for S seconds in all (default: %(default)g; 0: not at all)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cells and what they take, and run nothing")


def run(args: argparse.Namespace) -> int:
    """Plan, run, report; exit code 0 all done, 1 some failed, 2 bad configuration, 3 budget spent, 130 / 143 signal."""
    with sigterm_raises():  # while Ray runs cells it has its own way to end them
        return run_matrices(load_matrices(args.files), args)[0]


def run_matrices(matrices: Sequence[Matrix], args: argparse.Namespace) -> tuple[int, list[Path]]:
    """Run matrices that have been read, with the options of ``args``; the exit code, and the folders they report in."""
    from ablations.drafts import both_phases
    from ablations.groups import make_group

    budget = given_budget(args)
    matrices = [with_options(matrix, args) for matrix in matrices]
    name = "all" if "all" in args.files else "several"
    with ExitStack() as stack:
        ray = stack.enter_context(lender(args.address))
        drafts = [_drafts(matrices, args, dataset, ray.standing) for dataset in _datasets(args.dataset)]
        every = [draft for own in drafts for draft in own]
        tuned = all(draft.is_tuned for draft in every)

        def planned() -> list[Group]:
            return [make_group(name, [draft.plan() for draft in own], args.out) for own in drafts]

        groups = planned() if tuned else [both_phases(own) for own in drafts]
        if not tuned:
            _announce_tuning(every, ray.standing)
        groups = _announced(groups, args, ray, budget)
        folders = [plan.folder for own, group in zip(drafts, groups, strict=True) for plan in group.plans[-len(own) :]]
        if args.dry_run:
            return 0, folders
        code = 0
        if not tuned:
            code, left = _tune(every, groups, args, ray, budget)
            if left is None:
                return code, folders
            budget = left
            groups = _announced(planned(), args, ray, budget)
        return max(code, run_groups(groups, args, ray, budget)), folders


def _announce_tuning(drafts: Sequence[Draft], connection: Connection | None) -> None:
    """Say which candidates each arm has, and that the comparison's cells are known only after them."""
    from ablations.terminal import print_plan

    for draft in drafts:
        if draft.tuning is not None and not draft.is_tuned:
            print_plan(draft.tuning, slots(draft.tuning.matrix.resources, connection))
    print("Then the comparison, every arm with the values that do best on validation. Both together:", flush=True)


def _tune(
    drafts: Sequence[Draft],
    groups: Sequence[Group],
    args: argparse.Namespace,
    ray: Lender,
    budget: Budget,
) -> tuple[int, Budget | None]:
    """Tune the arms that are to be tuned; the exit code of that, and the budget that is left for the comparison.

    None for a budget: that was cut short, and there is no comparison now.
    """
    from ablations.drafts import run_tuning
    from ablations.terminal import print_end

    expected = {key: seconds for group in groups for plan in group.plans for key, seconds in plan.expected.items()}
    code = 0
    for finished in run_tuning(drafts, ray, mlflow_out(args), budget, expected):
        print_end(finished)
        if finished.problem:
            print(f"Attention: {finished.problem}.")
        code = max(code, finished.exit_code)
        if finished.outcome is not None and finished.outcome.cluster_lost:
            raise RayGoneError(code)
        if finished.is_cut_short:
            return code, None
        if finished.outcome is not None:
            budget = budget.after(finished.outcome.spent)
    return code, budget


def _announced(groups: Sequence[Group], args: argparse.Namespace, ray: Lender, budget: Budget) -> list[Group]:
    """Say of each data set's matrices what is to run and what it is expected to take; returns them with that.

    A Ray of our own starts meanwhile.
    """
    from ablations.changed import refuse_changed
    from ablations.estimate import estimate, with_estimate
    from ablations.matrix_lock import refuse_running
    from ablations.terminal import print_group

    resources, connection = groups[0].plans[0].matrix.resources, ray.standing
    at_once, gpus = slots(resources, connection), trial_gpus(resources, connection)
    refuse_gpu_hours(budget, gpus)
    if not 0 <= args.probe_seconds < math.inf:
        raise UserError(f"--probe-seconds must be 0 or more, got {args.probe_seconds:g}")
    if args.strict:
        refuse_changed(plan for group in groups for plan in group.plans)
    to_run = [plan for group in groups for plan in group.plans if plan.to_run]
    if to_run and not args.dry_run:
        refuse_running(plan.folder for plan in to_run)
        cells = (at.cell for plan in to_run for at in plan.to_run)
        check_before_training((plan.data for plan in to_run), args.out, connection, resources, cells)
        ray.begin()
    announced = []
    for group in groups:
        found = estimate(group, at_once, gpus, connection, args.probe_seconds)
        print_group(group, at_once, found, budget)
        budget = budget.after(Spent(found.makespan_seconds / 3600, found.gpu_hours, len(found.to_run)))
        announced.append(with_estimate(group, found))
    return announced


def run_groups(groups: Sequence[Group], args: argparse.Namespace, ray: Lender, budget: Budget) -> int:
    """Data set after data set, then the table over all of them where it is asked for."""
    from ablations.groups import run_group
    from ablations.terminal import print_finished

    finished: list[FinishedGroup] = []
    for place, group in enumerate(groups, 1):
        finished.append(run_group(group, ray, mlflow_out(args), budget))
        print_finished(finished[-1])
        budget = budget.after(finished[-1].spent)
        if finished[-1].interrupted or finished[-1].budget or finished[-1].halted:
            for later in groups[place:]:
                print(f"Not begun: {later.plans[0].data.name}")
            break
    else:
        asked = (args.dataset or "").strip() == AT_HAND or any(plan.matrix.paper_table for plan in groups[0].plans)
        if asked or len(groups) > 1:
            print(_table_over_all(finished, args.out))
    code = max(one.exit_code for one in finished)
    if finished[-1].cluster_lost:
        raise RayGoneError(code)
    return code


def _table_over_all(finished: Sequence[FinishedGroup], out: Path) -> str:
    """Write the table over all data sets; where it is, or why it is not there."""
    from ablations.groups import write_table
    from ablations.running import cannot_write

    try:
        return "Table over all data sets: " + ", ".join(map(str, write_table(finished, out)))
    except OSError as error:
        return f"Attention: {cannot_write(out, error)}."


def _datasets(text: str | None) -> list[str | None]:
    """The data sets asked for, with a sentence about each; None is the base experiment's own."""
    if text is None:
        return [None]
    names: list[str | None] = []
    for name, sentence in choose_datasets(text):
        names.append(name)
        print(sentence, flush=True)
    return names


def _drafts(
    matrices: Sequence[Matrix], args: argparse.Namespace, dataset: str | None, connection: Connection | None
) -> list[Draft]:
    """The matrices on one data set, whose readings are loaded once."""
    loaded: dict[str, TrafficData] = {}
    return [_draft(matrix, args, dataset, connection, loaded) for matrix in matrices]


def _draft(
    matrix: Matrix,
    args: argparse.Namespace,
    dataset: str | None,
    connection: Connection | None,
    loaded: dict[str, TrafficData],
) -> Draft:
    """Settle what is automatic (device, profile, seeds) and resolve the matrix to cells."""
    from ablations.drafts import make_draft
    from ablations.planning import compose_with
    from altformer.data.datasets import load

    machine, profile = settle(matrix.resources, args.profile, connection)
    seeds = given_seeds(args) or matrix.seeds.of(profile)
    settings = dict(map(parse_setting, args.set))
    source = compose_with(matrix.of(profile), settings, dataset=dataset, profile=profile).dataset
    readings = source.model_dump_json(exclude=set(WINDOWS))
    if readings not in loaded:
        loaded[readings] = load(source)
    return make_draft(
        matrix,
        loaded[readings],
        machine,
        dataset=dataset,
        profile=profile,
        settings=settings,
        seeds=seeds,
        out=args.out,
        undecided=args.undecided,
    )
