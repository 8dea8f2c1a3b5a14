"""``altformer ensemble``: the average of several trained models, scored as each of them was."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from altformer.ensemble import MEMBERS
from altformer.errors import UserError
from altformer.files import write_json
from altformer.scores import flatten
from altformer.training.config import selection_metric
from experiments.dataset_choice import choose_device, parse_seeds
from experiments.loaded_runs import check_comparable, load_runs, result_facts
from experiments.runs import RUN_HELP, Run, ensemble_id, find_arm, find_run, find_siblings
from experiments.scores_table import NOT_COMPARABLE, comparison_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    least, most = MEMBERS
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{least} to {most} runs of one data set: {RUN_HELP}")
    parser.add_argument(
        "--best",
        type=int,
        metavar="N",
        help="take the N runs with the least validation MAE",
    )
    parser.add_argument(
        "--seeds", metavar="0,1,2", help="take the runs with these seeds; of a single RUN, its siblings with them"
    )
    parser.add_argument("--matrix", type=Path, metavar="FOLDER", help="take the runs from a matrix's folder")
    parser.add_argument("--arm", help="with --matrix: which arm's")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are found (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Choose the members, score the average, and print it beside them."""
    members = choose(_candidates(args), best=args.best, seeds=None if args.seeds is None else parse_seeds(args.seeds))
    result, step_minutes = ensemble(members, choose_device(args.device))
    path = args.out / "ensembles" / f"{ensemble_id(members)}.json"
    write_json(path, result)
    if args.json:
        print(json.dumps(result))
        return 0
    for part in ("val", "test"):
        rows = {str(member): member.record[part] for member in members} | {"average": result[part]}
        print(comparison_table(f"{result['dataset']}, {part}", rows, step_minutes))
    if not result["comparable"]:
        print(NOT_COMPARABLE)
    print(f"  record: {path}")
    return 0


def ensemble(members: Sequence[Run], device: str) -> tuple[dict[str, Any], int]:
    """Scores of the members' average with where they come from, and the data's step in minutes."""
    loaded = load_runs(members, device)
    return {**result_facts(members, device), **loaded.scores()}, loaded.data.step_minutes


def choose(candidates: Sequence[Run], best: int | None = None, seeds: Sequence[int] | None = None) -> list[Run]:
    """3 to 5 members of the candidates: those with the given seeds, then the ``best`` by validation MAE; else all."""
    least, most = MEMBERS
    members = list(candidates)
    if not members:
        raise UserError(f"an ensemble needs runs: give {least} to {most}")
    check_comparable(members)
    if seeds is not None:
        absent = [str(seed) for seed in seeds if seed not in [run.record["seed"] for run in members]]
        if absent:
            found = ", ".join(sorted({str(run.record["seed"]) for run in members}))
            raise UserError(f"--seeds: no run with seed {', '.join(absent)} (found: {found})")
        members = [run for run in members if run.record["seed"] in seeds]
    if best is not None:
        if not least <= best <= most:
            raise UserError(f"--best must be {least} to {most}, got {best}")
        if best > len(members):
            raise UserError(f"--best {best} of only {len(members)} runs")
        metrics = {selection_metric(run.config.training) for run in members}
        if len(metrics) > 1:
            raise UserError(f"--best: the runs were selected by different metrics: {', '.join(sorted(metrics))}")
        metric = metrics.pop()
        members = sorted(members, key=lambda run: flatten("val", run.record["val"])[metric])[:best]
    _refuse_twins(members)
    if not least <= len(members) <= most:
        more = "; --seeds 0,1,2 adds a run's siblings, --matrix FOLDER --arm ARM takes an arm's runs"
        advice = f"; --best {most} chooses by validation MAE" if len(members) > most else more
        raise UserError(f"an ensemble has {least} to {most} members, got {len(members)}{advice}")
    return members


def _refuse_twins(members: Sequence[Run]) -> None:
    """UserError where two members are one configuration with one seed: they would count twice."""
    seen: dict[str, Run] = {}
    for run in members:
        other = seen.setdefault(run.config.model_dump_json(), run)
        if other is not run:
            raise UserError(f"{other} and {run} are the same run (of different code, or named twice): leave one out")


def _candidates(args: argparse.Namespace) -> list[Run]:
    if (args.matrix is None) != (args.arm is None):
        raise UserError("--matrix and --arm go together: the folder of a matrix, and one of its arms")
    found = [find_run(name, args.out) for name in args.runs]
    if args.matrix is not None:
        found += find_arm(args.matrix, args.arm, args.out)
    if len(found) == 1 and args.seeds is not None:
        return find_siblings(found[0])
    return found
