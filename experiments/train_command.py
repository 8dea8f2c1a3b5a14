"""``altformer train``: one configuration on this machine, without Ray."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from altformer.config import Config
from altformer.errors import UserError
from altformer.files import write_json
from cluster.preflight import check_out
from cluster.work import Ended
from experiments import provenance
from experiments.cell import Cell, Machine, Record, finished_record, make_cell, run_cell
from experiments.cell_lock import refuse_trained
from experiments.compose import compose, find_experiment, parse_setting
from experiments.dataset_choice import choose_dataset, choose_device, parse_seeds
from experiments.fields import locate
from experiments.garbage import collect_as_usual
from experiments.runs import experiment_file
from experiments.scores_table import NOT_COMPARABLE, comparable, scores_table
from experiments.tracked_cell import cell_files, final_metrics, work_of
from experiments.yaml_file import parse_yaml

ACCEPTS_FIELDS = True  # any field of the configuration is an option: --lr 0.001, --model.embed_dim 48


@dataclass(frozen=True)
class Trained:
    """A cell with its record, and what it is shown by."""

    name: str
    cell: Cell
    record: Record
    step_minutes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; every configuration field is one more, by leaf name or dotted path."""
    parser.add_argument("--cfg", default="METR-LA_alternating", help="experiment YAML, a path or a shipped one by name")
    parser.add_argument("--seeds", metavar="0,1,2", help="train these seeds of the configuration at once, as one model")
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that trains one cell takes, besides the experiment itself."""
    parser.add_argument("--experiment_name", help="name under which the result is found (default: the file's)")
    parser.add_argument("--dataset", help="use another data set than the experiment's")
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
    from experiments.train_seeds import train_seeds

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


def train_or_find(config: Config, name: str, args: argparse.Namespace) -> Trained:
    """Train the cell of a configuration, or find it finished; ``args`` are the common arguments."""
    from altformer.data.datasets import load
    from altformer.fit_check import check_fit

    machine, data = machine_of(args), load(config.dataset)
    check_fit(config, data)
    cell = make_cell(config, machine, data.identity, args.out, args.profile)
    record = None if args.again else finished_record(cell.folder)
    if record is not None:
        print(f"{name}: this very run is finished; --again trains it anew")
    else:
        check_out(args.out)
        if args.again:
            refuse_trained(cell.folder)
        print(what_is_trained(name, config, data, machine), flush=True)
        record = train_alone(cell, data, name, args)
    return Trained(name, cell, record, data.step_minutes)


def machine_of(args: argparse.Namespace) -> Machine:
    """The machine that the command line chooses."""
    return Machine("cuda" if choose_device(args.device) == "cuda" else "cpu", args.threads)


def what_is_trained(name: str, config: Config, data: Any, machine: Machine) -> str:
    """One line before a training that may take hours."""
    training, (rows, sensors) = config.training, data.values.shape
    limit = f" of {training.steps_per_epoch} steps" if training.steps_per_epoch else ""
    where = f"{data.name} ({rows} rows x {sensors} sensors)"
    hint = "; --profile quick is sized for a CPU" if machine.device == "cpu" and not limit else ""
    return f"{name}: {config.model.type} on {where}, up to {training.epochs} epochs{limit} on {machine.device}{hint}"


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


def train_alone(cell: Cell, data: Any, name: str, args: argparse.Namespace) -> Record:
    """Train one cell, with its progress shown and tracked; its record."""
    from experiments.signals import sigterm_raises
    from experiments.train_progress import TrainProgress

    started_by = provenance.started_by()
    work = work_of(cell, name, {"experiment": name}, started_by)
    tracker = tracker_of(args)
    context = TrainProgress(cell.machine.device, cell.config.training, name, partial(tracker.cell_epoch, work))
    collect_as_usual()
    tracker.cell_started(work)
    ended = Ended("interrupted")
    try:
        with sigterm_raises(), context:
            record = run_cell(cell, data, context, started_by, args.again)
        ended = Ended(record["status"], record)
    except Exception as error:
        ended = Ended("failed", error=repr(error))
        raise
    finally:
        tracker.cell_ended(work, ended)
        tracker.close()
    if tracker.problem:
        print(tracker.problem)
    return record


def tracker_of(args: argparse.Namespace) -> Any:
    """What records the run: MLflow when asked, else nothing (and no mlflow is imported)."""
    from cluster.tracking.location import resolve
    from cluster.tracking.no_tracker import NoTracker
    from cluster.tracking.tracker import Tracker

    if not args.mlflow:
        return NoTracker()
    return Tracker(
        resolve(args.out),
        None,
        final_metrics=final_metrics,
        cell_artifacts=lambda work, status, record: cell_files(work.payload["cell"], record or {}),
    )


def show(trained: Trained, out: Path) -> int:
    """Print the outcome, note it under the experiment's name, and return the exit code."""
    name, record, folder = trained.name, trained.record, trained.cell.folder
    note(trained, out)
    if record["status"] == "diverged":
        print(f"{name}: diverged after epoch {record['epochs']} (NaN or infinity in loss or validation)")
    else:
        print(f"{name}: {record['epochs']} epochs in {record['train_seconds']:.1f} s, {record['params']:,} parameters")
        title = f"best epoch {record['best_epoch']} on the test set"
        print(scores_table(title, record["test"], trained.step_minutes))
        if not comparable(record):
            print(NOT_COMPARABLE)
    print(f"  record: {folder / 'record.json'}")
    return 0


def note(trained: Trained, out: Path) -> None:
    """Note a run under its name, by which other commands find it."""
    noted = experiment_file(trained.name, out)
    content = {**trained.record, "experiment_name": trained.name, "cell_folder": str(trained.cell.folder)}
    try:
        write_json(noted, content)
    except OSError as error:  # the run itself is recorded, and may be read by who may not write here
        print(f"Attention: {noted}: cannot be written: {error.strerror}; find this run as {trained.cell.hash}")
