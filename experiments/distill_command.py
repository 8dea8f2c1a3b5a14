"""``altformer distill``: train a small student on the data and on a trained teacher's forecasts."""

from __future__ import annotations

import argparse
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from altformer.config import Config
from altformer.errors import UserError
from altformer.files import said_when_full, write_json
from altformer.training.config import DistillationConfig
from experiments.bare_run import Trained, show, train_or_find
from experiments.cell import Record, make_cell, read_record
from experiments.compose import compose, experiment_layer, find_experiment
from experiments.dataset_choice import choose_dataset
from experiments.runs import RUN_HELP, Run, find_run
from experiments.scores_table import comparison_table
from experiments.train_command import add_common_arguments, experiment_name, given_settings

ACCEPTS_FIELDS = True
DEFAULT_WEIGHT = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; every configuration field of the student is one more."""
    parser.add_argument("teacher", metavar="TEACHER", help=f"finished run: {RUN_HELP}; comes first")
    parser.add_argument("--cfg", required=True, help="the student's experiment YAML, a path or a shipped one by name")
    parser.add_argument(
        "--weight", type=float, help=f"the teacher's part of the loss, 0 to 1 (default: {DEFAULT_WEIGHT})"
    )
    parser.add_argument("--compare", action="store_true", help="also train the same student without the teacher")
    add_common_arguments(parser)
    parser.epilog = f"Where the student's file names no data set it takes the teacher's. {parser.epilog}"


def run(args: argparse.Namespace) -> int:
    """Train or find the student, and print it beside the teacher and beside the same student trained alone."""
    settings = given_settings(args)
    teacher = find_run(args.teacher, args.out)
    path = find_experiment(args.cfg)
    if args.dataset is not None:
        args.dataset, sentence = choose_dataset(args.dataset)
        print(sentence)
    else:
        settings = teachers_data(teacher, path, strides=args.profile is None) | settings
    alone = compose(path, dataset=args.dataset, profile=args.profile, settings=settings)
    config = taught(alone, teacher, args.weight)
    settle_teacher(teacher, args.out)
    name = args.experiment_name or f"{experiment_name(path)}-distilled"
    student = train_or_find(config, name, args)
    code = show(student, args.out)
    _compare(teacher, student, _alone(config, student, args), args.out)
    return code


def _alone(config: Config, student: Trained, args: argparse.Namespace) -> Record | None:
    """The record of the same student without a teacher, trained if that is asked for; None where there is none."""
    training = config.training.model_copy(update={"distillation": None})
    config = config.model_copy(update={"training": training})
    if args.compare:
        return train_or_find(config, f"{student.name}-alone", args).record
    machine, data_hash = student.cell.machine, student.cell.data_hash
    return read_record(make_cell(config, machine, data_hash, args.out, args.profile).folder)


def _compare(teacher: Run, student: Trained, alone: Record | None, out: Path) -> None:
    """Print the three beside each other, over the same windows, and write them down."""
    found = {"teacher": _teacher_scores(teacher, student), "distilled": student.record, "alone": alone}
    parts = {
        role: None if scored is None else {key: scored[key] for key in ("cell_hash", "params", "val", "test")}
        for role, scored in found.items()
    }
    names = {"teacher": "teacher", "distilled": "distilled student", "alone": "the same student alone"}
    for split in ("val", "test"):
        rows = {
            names[role] + (f", {part['params']:,}" if part else ""): part[split] if part else None
            for role, part in parts.items()
        }
        title = f"{student.record['dataset']}, {split} (with the number of parameters)"
        print(comparison_table(title, rows, student.step_minutes))
    if alone is None:
        print("  --compare also trains the same student without the teacher")
    path = out / "distilled" / f"{student.cell.hash}.json"
    weight = student.record["config"]["training"]["distillation"]["weight"]
    write_json(path, {"schema": 1, **parts, "weight": weight, "provenance": student.record["provenance"]})
    print(f"  record: {path}")


def _teacher_scores(teacher: Run, student: Trained) -> Record:
    """The teacher's record, its scores over the student's windows where those are others."""
    strides = ("val_stride", "test_stride")
    theirs, ours = (record["config"]["dataset"] for record in (teacher.record, student.record))
    if all(theirs[name] == ours[name] for name in strides):
        return teacher.record
    from experiments.loaded_runs import load_runs

    scores = load_runs([teacher], student.cell.machine.device).scores(*(ours[name] for name in strides))
    return {**teacher.record, **scores}


def taught(config: Config, teacher: Run, weight: float | None) -> Config:
    """The student's configuration with the teacher; the weight given, else the configuration's own, else the default.

    Raises UserError for a weight that is none.
    """
    training = config.training
    if weight is None:
        weight = training.distillation.weight if training.distillation else DEFAULT_WEIGHT
    if not 0 <= weight <= 1:
        raise UserError(f"--weight must be 0 to 1, got {weight:g}")
    distillation = DistillationConfig(teacher=teacher.hash, weight=weight)
    return config.model_copy(update={"training": training.model_copy(update={"distillation": distillation})})


def teachers_data(teacher: Run, student: Path, strides: bool) -> dict[str, Any]:
    """What the student's file leaves open of its data set, as the teacher has it.

    Nothing of the source when the file names another one; ``strides``: also which windows are scored.
    """
    said = experiment_layer(student).values
    theirs: Mapping[str, Any] = teacher.record["config"]["dataset"]
    named = said.get("dataset.name", said.get("dataset"))
    if "dataset.path" not in said and None not in (named, theirs["name"]) and named != theirs["name"]:
        raise UserError(
            f"{student}: names the data set {named}, the teacher was trained on {theirs['name']}; "
            f"add --dataset {theirs['name']}"
        )
    if "dataset.path" in said or named not in (None, theirs["name"]):
        return {}
    left_out = () if strides else ("val_stride", "test_stride")
    fields = {
        f"dataset.{field}": value for field, value in theirs.items() if value is not None and field not in left_out
    }
    return {path: value for path, value in fields.items() if path not in said}


def settle_teacher(teacher: Run, out: Path) -> Path:
    """The teacher's folder among the cells of ``out``, where training looks for it; copied there from elsewhere.

    Raises UserError when an unfinished run of the same cell is in the way.
    """
    cell = out.resolve() / "cells" / teacher.hash
    if teacher.folder.resolve() == cell:
        return cell
    if cell.exists():
        find_run(str(cell), out)
        return cell
    unfinished = cell.parent / f".{cell.name}.{uuid.uuid4().hex[:8]}"
    with said_when_full(cell.parent):
        try:
            _copy(teacher.folder, unfinished)
            unfinished.rename(cell)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return cell


def _copy(source: Path, target: Path) -> None:
    """Copy a folder without what is hidden in it; ``shutil.copytree`` would not raise the system's own error."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name)
