"""Cells trained on this machine, without Ray: found finished or trained, shown, tracked, and noted under a name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from altformer.config import Config
from altformer.files import write_json
from cluster.preflight import check_out
from cluster.work import Ended, Work
from experiments import provenance
from experiments.cell import Cell, Machine, Record, finished_record, make_cell, run_cell
from experiments.cell_lock import refuse_trained
from experiments.dataset_choice import choose_device
from experiments.garbage import collect_as_usual
from experiments.runs import experiment_file
from experiments.scores_table import NOT_COMPARABLE, comparable, scores_table
from experiments.tracked_cell import cell_files, final_metrics, work_of


@dataclass(frozen=True)
class Trained:
    """A cell with its record, and what it is shown by."""

    name: str
    cell: Cell
    record: Record
    step_minutes: int


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
    epochs = "1 epoch" if training.epochs == 1 else f"up to {training.epochs} epochs"
    limit = f" of {training.steps_per_epoch} steps" if training.steps_per_epoch else ""
    where = f"{data.name} ({rows} rows x {sensors} sensors)"
    hint = "; --profile quick is sized for a CPU" if machine.device == "cpu" and not limit else ""
    return f"{name}: {config.model.type} on {where}, {epochs}{limit} on {machine.device}{hint}"


def train_alone(cell: Cell, data: Any, name: str, args: argparse.Namespace) -> Record:
    """Train one cell, with its progress shown and tracked; its record."""
    from experiments.train_progress import TrainProgress

    started_by = provenance.started_by()
    work = work_of(cell, name, {"experiment": name}, started_by)
    with tracked([work], args) as (tracker, ended):
        on_epoch = partial(tracker.cell_epoch, work)
        with TrainProgress(cell.machine.device, cell.config.training, name, on_epoch) as context:
            record = run_cell(cell, data, context, started_by, args.again)
        ended(cell, record)
    return record


@contextmanager
def tracked(works: Sequence[Work], args: argparse.Namespace) -> Iterator[tuple[Any, Callable[[Cell, Record], None]]]:
    """Within it cells are trained, each tracked as a run of its own: the tracker, and what takes each cell's record.

    A cell without a record at the end has failed, or was interrupted by a signal.
    """
    from experiments.signals import sigterm_raises

    tracker, fate = tracker_of(args), Ended("interrupted")
    running = {work.key: work for work in works}

    def ended(cell: Cell, record: Record) -> None:
        tracker.cell_ended(running.pop(cell.hash), Ended(record["status"], record))

    collect_as_usual()
    for work in works:
        tracker.cell_started(work)
    try:
        with sigterm_raises():
            yield tracker, ended
    except Exception as error:
        fate = Ended("failed", error=repr(error))
        raise
    finally:
        for work in running.values():
            tracker.cell_ended(work, fate)
        tracker.close()
    if tracker.problem:
        print(tracker.problem)


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
        epochs = "1 epoch" if record["epochs"] == 1 else f"{record['epochs']} epochs"
        print(f"{name}: {epochs} in {record['train_seconds']:.1f} s, {record['params']:,} parameters")
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
