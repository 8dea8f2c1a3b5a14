"""``altformer promote``: the best cell of a matrix, or a named one, becomes a registered model in MLflow."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from altformer.errors import UserError

if TYPE_CHECKING:
    from ablations.reported import Reported
    from experiments.runs import Run


@dataclass(frozen=True)
class Chosen:
    """The cell to promote, why it is this one, and the tags of its place in a matrix."""

    run: Run
    why: str
    tags: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a cell (hash, folder or experiment name), a matrix (folder, or its name below --out): its best cell by "
        "validation, or MATRIX:ARM: the arm's",
    )
    parser.add_argument("--name", required=True, help="name of the registered model, such as altformer-metr-la")
    parser.add_argument("--alias", help="an alias for the version, such as champion")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are found (default: runs)")


def run(args: argparse.Namespace) -> int:
    """Register the cell's best checkpoint and say how to load it; the same cell is registered once under a name."""
    from altformer.loaded import load_model
    from cluster.tracking.location import resolve
    from cluster.tracking.registry import Registry, check_name
    from experiments.served import tags_of, write_model

    name = check_name(args.name)
    chosen = choose(args.run, args.out)
    print(f"Cell {chosen.run}: {chosen.why}", flush=True)
    load_model(chosen.run.folder)  # a damaged checkpoint is refused before MLflow is asked for anything
    location = resolve(args.out)
    tags = {**tags_of(chosen.run), **chosen.tags}
    write = partial(write_model, chosen.run)
    version = Registry(location).register(name, write, tags, key="cell_hash", alias=args.alias)
    if not version.new:
        print(f"It is version {version.number} of {name} already; no other was made.")
    else:
        print(f"Registered as version {version.number} of {name} at {location.shown}.")
    if args.alias:
        print(f"Alias {args.alias}: models:/{name}@{args.alias}")
    print(f'Load it: mlflow.set_tracking_uri("{location.shown}"); mlflow.pyfunc.load_model("{version.uri}")')
    return 0


def choose(name: str, out: Path) -> Chosen:
    """The cell that a name stands for; UserError where it is none that was trained to its end.

    Of a matrix: the arm with the lowest mean objective on validation among those with every seed done, then its best
    seed. The test set has no part in it.
    """
    from ablations.folders import PLAN, find_matrix, is_matrix, split_arm
    from ablations.reported import read_reported
    from experiments.runs import find_run

    if (found := split_arm(name, out)) is not None:
        matrix, arm = found
        return _best_of(read_reported(find_matrix(matrix, out)), arm)
    if is_matrix(name, out):
        return _best_of(read_reported(find_matrix(name, out)), None)
    try:
        run = find_run(name, out)
    except UserError as error:
        matrices = ", ".join(found.parent.name for found in sorted(out.glob(f"*/{PLAN}"))) or "none"
        raise UserError(f"{error}; matrices there: {matrices}") from error
    return Chosen(run, "named by you", {})


def _best_of(reported: Reported, arm: str | None) -> Chosen:
    from ablations.cells import done_runs
    from experiments.runs import best_arm, validation_of

    objective, folder = reported.matrix.objective, reported.folder
    if arm is None:
        whole = done_runs(reported.results)
    else:  # named, so those of its seeds that are done will do
        whole = done_runs(cell for cell in reported.cells_of(arm) if cell.run)
    if not whole:
        what = f"the arm '{arm}' has no cell that is done" if arm else "no arm has all its seeds done"
        raise UserError(f"{folder}: {what}; run the matrix to its end, or name a cell or MATRIX:ARM")

    best, run, mean = best_arm(whole, objective)
    of = f"arm {arm}" if arm else f"of {len(whole)} arms {best} has the lowest mean {objective}, {mean:.3f}"
    many = len(whole[best]) > 1
    which = f"of its {len(whole[best])} seeds this one has the lowest" if many else "its one seed has"
    why = f"{of}; {which} {objective} {validation_of(run, objective):.3f}"
    return Chosen(run, why, {"arm": best, "matrix": reported.matrix.name})
