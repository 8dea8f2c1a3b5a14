"""A cell: one configuration with one seed, its identity, its folder and its record.

The same cell is the same folder whoever runs it: ``altformer train``, a matrix on one machine, or one on a cluster.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from altformer.config import Config
from altformer.errors import UserError
from altformer.files import write_json, write_text
from cluster.redaction import secret_fields
from experiments import provenance
from experiments.cell_lock import lock_at_once, only_trainer, told_by_rank_0
from experiments.cell_log import cell_log, end_logged, log_start
from experiments.earlier_result import earlier_aside

log = logging.getLogger(__name__)

RECORD_SCHEMA = 1
FINISHED = ("done", "diverged")  # statuses of a cell that is never trained again, whatever scheduler it had
HAS_RESULT = (*FINISHED, "stopped")  # statuses of a cell that has a result
Record = dict[str, Any]


class KeptRecordError(OSError):
    """A cell's record was not replaced by that of a failure."""


@dataclass(frozen=True)
class Machine:
    """What of the machine decides numbers: kind of device, CPU threads per worker, number of workers."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    workers: int = 1


@dataclass(frozen=True)
class Cell:
    """One run to be done, with everything that goes into its record."""

    config: Config
    machine: Machine
    data_hash: str
    folder: Path
    profile: str | None = None

    @property
    def hash(self) -> str:
        """The cell's identity, which is also its folder's name."""
        return self.folder.name


def make_cell(config: Config, machine: Machine, data_hash: str, out: Path, profile: str | None = None) -> Cell:
    """The cell of a configuration below ``<out>/cells``; UserError where the configuration holds a secret."""
    if found := secret_fields(config.model_dump(mode="json")):
        raise UserError(
            f"{found[0]} holds a secret, and a configuration is written into every record: give it as an environment "
            "variable, which the model's code reads; if it is none, give the field another name"
        )
    return Cell(config, machine, data_hash, out.resolve() / "cells" / cell_hash(config, machine, data_hash), profile)


def cell_hash(config: Config, machine: Machine, data_hash: str) -> str:
    """16 hex digits over everything that decides the cell's numbers, and nothing else (no paths, no names of arms).

    Seeds that are trained at once have the same cells as apart, where their numbers are rounded otherwise.
    """
    content = config.model_dump(mode="json", exclude={"dataset": {"path", "graph"}})
    identity = {"config": content, "data": data_hash, "machine": asdict(machine), "sources": provenance.sources_hash()}
    if config.model.type == "own":
        identity["own_model"] = own_source_hash(config.model.class_path)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def own_source_hash(class_path: str) -> str:
    """sha256 of the file that defines a user's own model, ``package.module:Name``: changed code is another cell.

    UserError when there is no such file.
    """
    module = class_path.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise UserError(f"model.class: cannot find '{module}' ({error})") from error
    source = Path(spec.origin) if spec is not None and spec.origin else None
    if source is None or not source.is_file():
        raise UserError(f"model.class: cannot find '{module}'; is it installed, or its folder in PYTHONPATH?")
    return hashlib.sha256(source.read_bytes()).hexdigest()


def read_record(folder: Path) -> Record | None:
    """The record of a cell, or None when there is none (a broken one counts as none)."""
    try:
        record = json.loads((folder / "record.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("schema") == RECORD_SCHEMA else None


def finished_record(folder: Path) -> Record | None:
    """The record of a cell that is done or diverged."""
    record = read_record(folder)
    return record if record is not None and record["status"] in FINISHED else None


def run_cell(
    cell: Cell, data: Any, context: Any, started_by: Mapping[str, Any], again: bool = False, test: bool = True
) -> Record:
    """Train a cell and, on rank 0, write its record unless it was interrupted; returns the record.

    ``started_by`` holds what only the driver knows: git state, command, and the scheduler that may stop the cell. Cells
    are shared by matrices: one that another process trains is waited for, and its record taken. ``again`` trains from
    the start whatever is there, which is lost only once there is a new result. Without ``test`` the cell is stopped
    before its test set is read, as by the scheduler that ``started_by`` names; run again with it, it goes on to that.
    What happens is told in the cell's ``log.txt``. DiskFullError is raised where there is no room for what is written.
    """
    writes = context.rank == 0
    with (
        cell_log(cell.folder) if writes else nullcontext(),
        end_logged(),
        only_trainer(cell.folder, context) as is_ours,
        earlier_aside(cell.folder, again, is_finished) if writes and is_ours else nullcontext(),
    ):
        if not is_ours:
            return left_waiting(cell, started_by)
        # perhaps by another process: while this one waited for the lock, or the cell at a rung without it
        record = told_by_rank_0(context, finished_record(cell.folder) if writes else None)
        if record is not None:
            log.info("found %s by another process", record["status"])
            return record
        begin(cell, writes)
        record = _train(cell, data, context, started_by, test)
        write_record(cell, record, writes)
        return record


def left_waiting(cell: Cell, started_by: Mapping[str, Any]) -> Record:
    """The record, which is not written, of a cell that had to leave while another process trained it."""
    log.info("ended: interrupted")
    return _without_result(cell, "interrupted", started_by)


def is_finished(folder: Path) -> bool:
    """Whether a cell is done or diverged."""
    return finished_record(folder) is not None


def begin(cell: Cell, writes: bool = True) -> None:
    """Say in the log who trains the cell, and write what it is trained from."""
    log_start(cell.folder)
    if writes:
        config = yaml.safe_dump(cell.config.model_dump(mode="json"), sort_keys=False)
        write_text(cell.folder / "config.yaml", config)
        write_text(cell.folder / "environment.txt", provenance.environment())


def write_record(cell: Cell, record: Record, writes: bool = True) -> None:
    """Write the record of a training, unless it was interrupted, and say in the log how it ended."""
    if writes and record["status"] != "interrupted":
        write_json(cell.folder / "record.json", record)
    log.info("ended: %s", record["status"])


def _train(cell: Cell, data: Any, context: Any, started_by: Mapping[str, Any], test: bool) -> Record:
    import torch

    from altformer.train import train

    torch.set_num_threads(cell.machine.threads)
    started = provenance.now()
    teacher = load_teacher(cell, data, context.device)
    result = train(cell.config, data, context, cell.folder, teacher, test)
    return record_of(cell, result, started_by, started)


def record_of(
    cell: Cell, result: Any, started_by: Mapping[str, Any], started: str, together: Sequence[int] = ()
) -> Record:
    """The record of a training that began at ``started`` and ends now with such a ``Result``.

    ``together`` are the seeds that were trained at once, this one among them, if they were. The command that repeats
    the cell has them all, where no epoch was trained alone or with more: with others its numbers are rounded otherwise.
    """
    groups = [at_once(epoch) for epoch in result.curve]
    made = _provenance(cell, started_by, together if all(0 < group <= len(together) for group in groups) else ())
    if together:
        made["together"] = [*together]
    return {
        **_identity(cell),
        **asdict(result),
        "stopped_by": started_by.get("scheduler") if result.status == "stopped" else None,
        "provenance": {**made, "started": started, "ended": provenance.now()},
        "error": None,
    }


def at_once(epoch: Mapping[str, float]) -> int:
    """How many seeds were trained at once in an epoch of a curve, whose seconds are a share of theirs; 0: it alone."""
    return int(epoch.get("seeds_at_once", 0))


def load_teacher(cell: Cell, data: Any, device: Any) -> Any:
    """The model whose forecasts a distilled cell learns from, or None; it is the cell of that hash beside this one.

    UserError when that was not trained to its end, or sees other inputs than the student.
    """
    distillation = cell.config.training.distillation
    if distillation is None:
        return None
    from altformer.data.windows import Windows
    from altformer.loaded import load_model

    folder = cell.folder.parent / distillation.teacher
    record = read_record(folder)
    if record is None or record["status"] != "done":
        found = "it was not trained to its end" if folder.is_dir() else "there is no such folder"
        raise UserError(f"training.distillation.teacher {distillation.teacher}: looked for it at {folder}, but {found}")
    teacher = load_model(folder, device)
    windows = Windows.of(data, cell.config.dataset.input_len, cell.config.dataset.output_len)
    teacher.check_fits(data, windows)
    if teacher.facts.scaler != windows.scaler:
        raise UserError(
            f"training.distillation.teacher {distillation.teacher}: scales readings by {teacher.facts.scaler}, "
            f"the student by {windows.scaler}; both must be trained on the same data and split"
        )
    return teacher.model


def write_failure(cell: Cell, error: str, started_by: Mapping[str, Any], fault: str | None = None) -> Record:
    """Record that a cell failed, with its traceback; a failed cell is run again by the next start.

    Where another process has finished it meanwhile, that record stays and is returned. KeptRecordError, with nothing
    written, where a scheduler had stopped the cell before, or another process trains it now.
    """
    with lock_at_once(cell.folder) as is_free:
        found = read_record(cell.folder)
        if found is not None and found["status"] in FINISHED:
            return found
        if not is_free or (found is not None and found["status"] == "stopped"):
            raise KeptRecordError(f"{cell.folder}: has another result, or is about to have one, than this failure")
        record = failure_record(cell, error, started_by, fault)
        write_json(cell.folder / "record.json", record)
    return record


def failure_record(cell: Cell, error: str, started_by: Mapping[str, Any], fault: str | None = None) -> Record:
    """The record of a cell that failed; ``fault`` is the kind of what went wrong (``cluster.work.FaultKind``)."""
    return {**_without_result(cell, "failed", started_by), "error": error, "fault": fault}


def _without_result(cell: Cell, status: str, started_by: Mapping[str, Any]) -> Record:
    nothing = dict.fromkeys(("best_epoch", "val", "test", "stopped_by", "params", "error"))
    return {
        **_identity(cell),
        **nothing,
        "status": status,
        "epochs": 0,
        "curve": [],
        "train_seconds": 0.0,
        "provenance": {**_provenance(cell, started_by), "ended": provenance.now()},
    }


def repeat_command(cell: Cell, started_in: str | None, together: Sequence[int] = ()) -> str:
    """The command that trains this cell anew, beside the first time; given in the folder where it was started.

    With the seeds that were trained ``together`` with it, if any.
    """
    folder = cell.folder
    if started_in and folder.is_relative_to(started_in):
        folder = folder.relative_to(started_in)
    distillation = cell.config.training.distillation
    command = ["train"] if distillation is None else ["distill", str(folder.parent / distillation.teacher)]
    machine = ["--device", cell.machine.device, "--threads", str(cell.machine.threads)]
    seeds = ["--seeds", ",".join(map(str, together))] if together else []
    config = str(folder / "config.yaml")
    return shlex.join(["altformer", *command, "--cfg", config, *seeds, *machine, "--out", "repeat"])


def _identity(cell: Cell) -> Record:
    source = cell.config.dataset
    return {
        "schema": RECORD_SCHEMA,
        "cell_hash": cell.hash,
        "seed": cell.config.seed,
        "dataset": source.name or Path(str(source.path)).name,
        "data_hash": cell.data_hash,
        "sources": provenance.sources_hash(),
        "profile": cell.profile or "custom",
        "machine": asdict(cell.machine),
        "config": cell.config.model_dump(mode="json"),
    }


def _provenance(cell: Cell, started_by: Mapping[str, Any], together: Sequence[int] = ()) -> Record:
    given = {key: started_by.get(key) for key in ("git_commit", "git_dirty", "command", "matrix")}
    hardware = provenance.hardware(cell.machine.device)
    alone = cell.machine.workers == 1  # a bare run has one worker; several are repeated as they were started
    repeat = repeat_command(cell, started_by.get("started_in"), together) if alone else started_by.get("command")
    return {**given, "repeat": repeat, "versions": provenance.versions(), "hardware": hardware}
