"""``altformer postprocess``: a trained model's forecasts with causal post-processing, scored before and after."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from altformer.errors import unknown_name
from altformer.files import write_json
from altformer.postprocess import METHODS, postprocess
from altformer.training.config import selection_metric
from experiments.dataset_choice import choose_device
from experiments.loaded_runs import load_runs, result_facts
from experiments.runs import RUN_HELP, Run, ensemble_id, find_run
from experiments.scores_table import NOT_COMPARABLE, comparison_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help=f"one run, or 3 to 5 to be averaged: {RUN_HELP}")
    parser.add_argument("--method", default="both", help="kalman, exponential or both (default: both, each by itself)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are found (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Choose on validation, score both parts before and after, and print them."""
    if args.method not in (*METHODS, "both"):
        raise unknown_name("method", args.method, (*METHODS, "both"), "--method")
    methods = list(METHODS) if args.method == "both" else [args.method]
    members = [find_run(name, args.out) for name in args.runs]
    print("Forecasting at every origin of both parts, which the filters need", file=sys.stderr)
    result, step_minutes = postprocessed(members, methods, choose_device(args.device))
    name = members[0].hash if len(members) == 1 else ensemble_id(members)
    path = args.out / "postprocessed" / f"{name}-{args.method}.json"
    write_json(path, result)
    if args.json:
        print(json.dumps(result))
        return 0
    for part in ("val", "test"):
        rows = {"as forecast": result[part]}
        rows |= {f"{each['method']}, {each['parameter']} {each['value']:g}": each[part] for each in result["methods"]}
        print(comparison_table(f"{result['dataset']}, {part}", rows, step_minutes))
    print("  parameters chosen on the validation part")
    if not result["comparable"]:
        print(NOT_COMPARABLE)
    print(f"  record: {path}")
    return 0


def postprocessed(runs: Sequence[Run], methods: list[str], device: str) -> tuple[dict[str, Any], int]:
    """Scores before and after each method with where they come from, and the data's step in minutes.

    Several runs are averaged first. Parameters are chosen on the validation part, by the scoring the first run's best
    epoch was chosen by.
    """
    loaded = load_runs(runs, device)
    config = runs[0].config
    done = postprocess(
        methods,
        loaded.forecaster,
        loaded.windows,
        val_stride=config.dataset.val_stride,
        test_stride=config.dataset.test_stride,
        metric="mae_unmasked" if selection_metric(config.training) == "val_mae_unmasked" else "mae",
    )
    found = [
        {
            "method": each.method,
            "parameter": each.parameter,
            "value": each.value,
            "tried": [{"value": value, "val_error": error} for value, error in each.grid.items()],
            "val": each.val,
            "test": each.test,
        }
        for each in done.outcomes
    ]
    result = {**result_facts(runs, device), "val": done.val, "test": done.test, "methods": found}
    return result, loaded.data.step_minutes
