"""``altformer evaluate``: score a naive baseline exactly as every model is scored."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from altformer.baselines.config import BaselineConfig, CopyLastConfig, HistoricalAverageConfig, LastValueConfig
from altformer.errors import unknown_name
from experiments.scores_table import scores_table

NAIVE: dict[str, Callable[[], BaselineConfig]] = {
    "copy-last": CopyLastConfig,
    "last-value": LastValueConfig,
    "historical-average": HistoricalAverageConfig,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--baseline", required=True, help=", ".join(NAIVE))
    parser.add_argument("--dataset", default="auto", help="name of a data set (default: auto)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="part of the data (default: test)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    from altformer.data.config import DatasetConfig
    from altformer.data.datasets import load
    from altformer.data.windows import Windows
    from altformer.evaluate import model_forecaster, score
    from altformer.model.build import fitted_model
    from experiments.dataset_choice import choose_dataset

    if args.baseline not in NAIVE:
        raise unknown_name("baseline", args.baseline, NAIVE, "--baseline")
    name, sentence = choose_dataset(args.dataset)
    if not args.json:
        print(sentence)
    config = DatasetConfig(name=name)
    data = load(config)
    windows = Windows.of(data, config.input_len, config.output_len)
    model = fitted_model(NAIVE[args.baseline](), data, windows)
    result = score(model_forecaster(model, windows), windows, args.split)
    if args.json:
        print(json.dumps(as_json(name, args.split, result)))
    else:
        print(scores_table(f"{args.baseline} on {name}, {args.split}", result, data.step_minutes))
    return 0


def as_json(dataset: str, split: str, result: dict[str, Any]) -> dict[str, Any]:
    """The printed object: data set, split, windows, metrics by step, mae_unmasked."""
    metrics = {step: values for step, values in result.items() if isinstance(values, dict)}
    return {
        "dataset": dataset,
        "split": split,
        "windows": result["windows"],
        "metrics": metrics,
        "mae_unmasked": result["mae_unmasked"],
    }
