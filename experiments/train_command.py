"""``altformer train``: one configuration on this machine, without Ray."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from altformer.errors import UserError
from experiments.bare_run import show, train_or_find
from experiments.compose import compose, find_experiment, parse_setting
from experiments.dataset_choice import choose_dataset, parse_seeds
from experiments.fields import locate
from experiments.train_seeds import train_seeds
from experiments.yaml_file import parse_yaml

ACCEPTS_FIELDS = True  # any field of the configuration is an option: --lr 0.001, --model.embed_dim 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; every configuration field is one more, by leaf name or dotted path."""
    parser.add_argument("--cfg", default="METR-LA_alternating", help="experiment YAML, a path or a shipped one by name")
    parser.add_argument("--seeds", metavar="0,1,2", help="train these seeds of the configuration at once, as one model")
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that trains one cell takes, besides the experiment itself."""
    parser.add_argument("--experiment_name", help="name under which the result is found (default: the file's)")
    parser.add_argument("--dataset", help="use another data set than the experiment's: its name, or a YAML file's own")
    parser.add_argument("--profile", help="quick or full (default: the experiment as it is)")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of everything written (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all cores)")
    parser.add_argument("--mlflow", action="store_true", help="log to MLflow")
    parser.add_argument("--again", action="store_true", help="train from the start even if this very run has a record")
    parser.epilog = "Any field of the configuration is an option too, e.g. --lr 0.001 --epochs 50."


def run(args: argparse.Namespace) -> int:
    """Train or find the finished run, and print its scores."""
    settings = given_settings(args)
    path = find_experiment(args.cfg)
    if args.dataset is not None:
        args.dataset, sentence = choose_dataset(args.dataset)
        print(sentence)
    config = compose(path, dataset=args.dataset, profile=args.profile, settings=settings)
    name = args.experiment_name or experiment_name(path)
    if args.seeds is None:
        return show(train_or_find(config, name, args), args.out)
    if "seed" in settings:
        raise UserError("give either --seed, for one, or --seeds, for several")
    return train_seeds(config, parse_seeds(args.seeds), name, args)


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The fields set on the command line, by ``--set`` and as options of their own; UserError for a mistake in them."""
    settings = dict(map(parse_setting, args.set)) | field_options(args.fields)
    if args.threads < 1:
        raise UserError(f"--threads must be at least 1, got {args.threads}")
    return settings


def experiment_name(path: Path) -> str:
    """What an experiment is called when it is given no name: its file, or the cell whose configuration the file is."""
    return path.parent.name if path.stem == "config" else path.stem


def field_options(rest: list[str]) -> dict[str, Any]:
    """Configuration fields given as ``--name value`` or ``--name=value``; UserError for a name that is none."""
    fields: dict[str, Any] = {}
    items = iter(rest)
    for item in items:
        if not item.startswith("--"):
            raise UserError(f"unexpected argument '{item}'; fields are set as --name value")
        name, equals, value = item[2:].partition("=")
        locate(name, "command line")
        if not equals:
            value = next(items, "")
            if not value or value.startswith("--"):
                raise UserError(f"--{name} needs a value")
        fields[name] = parse_yaml(value, f"--{name}")
    return fields
