"""Small matrices run as a user runs them, in processes that a test may kill, and what is left of them afterwards.

matrix = Matrix(tmp_path, arms={"low": {"lr": 1e-3}, "high": {"lr": 3e-3}}, seeds=2, epochs=6, epoch_seconds=0.5)
process = matrix.start()                            # altformer ablate, in a session and a Ray folder of its own
process.wait_for_event("cell_epoch", epoch=2)
process.kill(process.pids_of("ray::Trial")[0])
matrix.hurry()                                      # what comes need not be slow
assert process.wait() == 0, process.output
same_results(matrix.records(), undisturbed(matrix))  # the fixture `undisturbed` trains them once a session
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablations.matrix import load_matrix
from ablations.planning import compose_with, make_plan
from altformer.data.datasets import load
from altformer.training.context import BareContext
from experiments.cell import Machine, run_cell
from tests.faults.models import HURRY
from tests.faults.process import MARKS, Process
from tests.small import SMALL_DATA

PLAIN = "tests.faults.models:Plain"
STEPS = 4  # of training in an epoch
TIMES = frozenset({"epoch_seconds", "samples_per_second"})  # of a curve: what may differ
SETTINGS = {**SMALL_DATA, "batch_size": 8, "steps_per_epoch": STEPS}
LOW_AND_HIGH: Mapping[str, Mapping[str, Any]] = {"low": {"lr": 1e-3}, "high": {"lr": 3e-3}}  # two arms

Records = dict[tuple[str, int], dict[str, Any]]  # by arm and seed


@dataclass(frozen=True)
class Attempt:
    """One go at a cell's training as the cell's log tells it: the epoch it resumed after (0: from the start), and the
    epochs it trained.
    """

    resumed_after: int
    epochs: tuple[int, ...]


class Matrix:
    """The YAML of a small matrix on simulated data below a folder, and the folders that its runs write.

    Every cell has `epochs` epochs of `epoch_seconds`, most of which it sleeps. An arm maps fields to values; one with a
    `model` of its own is `{"model": {"class": "tests.faults.models:NanAtStep", "step": 3}}`. `more` are further keys of
    the matrix (`resources`, `scheduler`); `settings` further fields of all cells.
    """

    def __init__(
        self,
        folder: Path,
        *,
        arms: Mapping[str, Mapping[str, Any]] = LOW_AND_HIGH,
        seeds: int = 1,
        epochs: int = 3,
        epoch_seconds: float = 0.0,
        name: str = "faults",
        settings: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.folder, self.name, self.out = folder, name, folder / "runs"
        self.arms = {arm: dict(fields) for arm, fields in arms.items()}
        model = {"class": PLAIN, "pause": epoch_seconds / STEPS}
        self.experiment: dict[str, Any] = {"base": "simulated.yaml", "model": model}
        self.content: dict[str, Any] = {
            "name": name,
            "base": f"{name}-experiment.yaml",
            "arms": self.arms,
            "baseline": next(iter(self.arms)),
            "seeds": seeds,
            "scheduler": "none",
            "settings": {**SETTINGS, "epochs": epochs, **(settings or {})},
            **more,
        }
        self.file = folder / f"{name}.yaml"
        self.write()

    def calm(self, folder: Path) -> Matrix:
        """The same cells, of a matrix `calm` below another folder, which do not sleep: their results are the same."""
        other = copy(self)
        other.name, other.folder, other.out, other.file = "calm", folder, folder / "runs", folder / "calm.yaml"
        other.content = {key: value for key, value in self.content.items() if key != "retries"}
        other.content |= {"name": "calm", "base": "calm-experiment.yaml"}
        other.experiment = {**self.experiment, "model": {**self.experiment["model"], "pause": 0.0}}
        other.write()
        return other

    def write(self) -> None:
        """Write the YAML files; after a change to `content` or `experiment` once more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.name}-experiment.yaml").write_text(yaml.safe_dump(self.experiment, sort_keys=False))
        self.file.write_text(yaml.safe_dump(self.content, sort_keys=False))

    def hurry(self) -> None:
        """Let its cells sleep no more, also those that train now."""
        marks = self.folder / MARKS
        marks.mkdir(exist_ok=True)
        (marks / HURRY).touch()

    def train_here(self) -> Records:
        """Its cells trained in this process, one after the other and without Ray; their records."""
        settings = load_matrix(self.file).of("full")
        data = load(compose_with(settings, {}, dataset=None, profile="full").dataset)
        plan = make_plan(
            settings,
            data,
            Machine("cpu", threads=1),
            dataset=None,
            profile="full",
            settings={},
            seeds=self.content["seeds"],
            out=self.out,
        )
        return {(at.arm, at.seed): run_cell(at.cell, data, BareContext(), {}) for at in plan.cells}

    def start(
        self, *options: str, env: Mapping[str, str] | None = None, out: Path | None = None, mlflow: bool = False
    ) -> Process:
        """Run `altformer ablate` on it with these options; close the process in the end (the fixture `close` does)."""
        where = out or self.out
        arguments = ["ablate", str(self.file), "--out", str(where), "--profile", "full", "--probe-seconds", "0"]
        return Process([*arguments, *([] if mlflow else ["--no-mlflow"]), *options], self.folder, env or {}, self)

    @property
    def report_folder(self) -> Path:
        """Where the matrix reports: the one folder of that name below `out`."""
        [folder] = self.out.glob(f"{self.name}-simulated-*")
        return folder

    @property
    def plan(self) -> list[dict[str, Any]]:
        """The cells of `plan.json`: arm, seed, cell_hash."""
        cells: list[dict[str, Any]] = json.loads((self.report_folder / "plan.json").read_text())["cells"]
        return cells

    def records(self) -> Records:
        """The records there are, by arm and seed."""
        found = {}
        for at in self.plan:
            path = self.cell_folder(at["cell_hash"]) / "record.json"
            if path.is_file():
                found[at["arm"], at["seed"]] = json.loads(path.read_text())
        return found

    def cell_folder(self, cell_hash: str) -> Path:
        """Where a cell's record, checkpoints and log are."""
        return self.out / "cells" / cell_hash

    def log(self, cell_hash: str) -> list[str]:
        """The lines of a cell's log, without their times."""
        path = self.cell_folder(cell_hash) / "log.txt"
        return [line.partition(" ")[2] for line in path.read_text().splitlines()] if path.is_file() else []

    def attempts(self, cell_hash: str) -> list[Attempt]:
        """The attempts at a cell that its log tells of, in order."""
        found: list[tuple[int, list[int]]] = []
        for line in self.log(cell_hash):
            if re.match(r"INFO started\b", line):
                found.append((0, []))
            elif resumed := re.match(r"INFO resumes after epoch (\d+)", line):
                found[-1] = (int(resumed[1]), found[-1][1])
            elif epoch := re.match(r"INFO epoch (\d+)", line):
                found[-1][1].append(int(epoch[1]))
        return [Attempt(after, tuple(epochs)) for after, epochs in found]

    def mlflow_runs(self) -> dict[str, str]:
        """{run name: status} of everything in the MLflow database below `out`; fails when a run is there twice."""
        query = "select name, status from runs where lifecycle_stage = 'active'"
        with closing(sqlite3.connect(self.out / "mlflow.db", timeout=30)) as database:
            rows: list[tuple[str, str]] = database.execute(query).fetchall()
        assert len(dict(rows)) == len(rows), f"a run twice: {sorted(rows)}"
        return dict(rows)

    def events(self, kind: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the matrix's events.jsonl of this kind with these fields; the last may be half a line."""
        found = []
        for folder in self.out.glob(f"{self.name}-simulated-*"):
            path = folder / "events.jsonl"
            for line in path.read_text().splitlines() if path.is_file() else []:
                with suppress(ValueError):
                    found.append(json.loads(line))
        wanted = {**({"kind": kind} if kind else {}), **fields}
        return [event for event in found if all(event.get(key) == value for key, value in wanted.items())]


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record must be the same whatever happened to its training: all results, but no times."""
    curve = [{key: value for key, value in epoch.items() if key not in TIMES} for epoch in record["curve"]]
    return {**{key: record[key] for key in ("status", "epochs", "best_epoch", "val", "test", "params")}, "curve": curve}


def same_results(records: Records, undisturbed: Records) -> bool:
    """True when the cells are the same and their results bit-equal, times apart; AssertionError names the first that
    is not.
    """
    assert records.keys() == undisturbed.keys(), f"cells {sorted(records)}, undisturbed {sorted(undisturbed)}"
    for cell, record in records.items():
        ours, theirs = without_times(record), without_times(undisturbed[cell])
        for key, value in theirs.items():
            # as text, in which a number has all its digits and NaN equals NaN
            assert json.dumps(ours[key]) == json.dumps(value), f"{cell}: {key} {ours[key]}, undisturbed {value}"
    return True
