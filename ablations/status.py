"""How far a matrix is, from what its folder and its cells' folders hold; changes nothing, needs no Ray, no MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ablations.events import FILE, Event, read_events
from ablations.folders import Planned, PlanOnDisk, cells_folder, known_plan, read_plan
from ablations.matrix_lock import Holder, holder
from cluster.eta import GOES_ON, Row
from cluster.tally import Tally
from cluster.work import Ended, Fault, Work
from experiments.cell import HAS_RESULT, Record, read_record

State = Literal["running", "finished", "not finished"]


class Session:
    """One run of cells as its events tell it, from ``matrix_started`` on; its clock is that of the events."""

    def __init__(self, started: Event, metric: str) -> None:
        self.now = self.started = float(started["t"])
        self.pid, self.host = started.get("pid"), started.get("host")
        self.has_ended = False
        self.notices: list[tuple[float, str]] = []
        self.seen: dict[str, float] = {}  # by cell
        self.last_words: dict[str, str] = {}  # of lost attempts and failed cells
        self.tally = Tally(metric, clock=lambda: self.now)
        self._works = {
            cell["cell"]: Work(
                cell["cell"], cell["name"], {}, epochs=cell["epochs"], expected_seconds=cell["expected_seconds"]
            )
            for cell in started["cells"]
        }
        self.tally.matrix_started(list(self._works.values()), started["slots"])

    def add(self, event: Event) -> None:
        """Take in what happened next."""
        self.now, kind = float(event["t"]), event["kind"]
        if kind == "matrix_ended":
            self.has_ended = True
        if kind in ("notice", "interrupted"):
            self.notices.append((self.now, str(event["text"])))
        work = self._works.get(event.get("cell", ""))
        if work is None:
            return
        self.seen[work.key] = self.now
        if event.get("text"):
            self.last_words[work.key] = str(event["text"]).strip().splitlines()[-1]
        if kind == "cell_epoch":
            self.tally.cell_epoch(work, {"epoch": event["epoch"], **event["metrics"]})
        elif kind == "cell_retried":
            self.tally.cell_retried(work, Fault(event["fault"], event["text"]), event["retries"])
        elif kind == "cell_ended":
            self.tally.cell_ended(work, Ended(event["status"], seconds=event["seconds"], retries=event["retries"]))
            self.tally.rows[work.key].retries = event["retries"]
        elif kind in ("cell_started", "cell_paused"):
            getattr(self.tally, kind)(work)


def _read_sessions(folder: Path, metric: str) -> list[Session]:
    """The runs that a folder's events tell of, in order; lines that make no sense are left out."""
    sessions: list[Session] = []
    for event in read_events(folder):
        try:
            if event["kind"] == "matrix_started":
                sessions.append(Session(event, metric))
            elif sessions:
                sessions[-1].add(event)
        except (LookupError, TypeError, ValueError, AttributeError):
            continue
    return sessions


@dataclass(frozen=True)
class CellStatus:
    """One cell as it is now; ``seen`` is the time of its last sign of life, ``why`` the last line of what went wrong.

    ``status`` is that of its record, or ``running``, ``paused`` (at a rung), ``retried`` (waits for another attempt),
    ``waiting`` (for a slot), ``interrupted`` (has a checkpoint to go on from), ``not run``.
    """

    arm: str
    seed: int
    cell_hash: str
    status: str
    epoch: int = 0
    epochs: int | None = None
    best: float | None = None
    retries: int = 0
    seen: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class MatrixStatus:
    """A matrix as it is now; ``eta`` and ``elapsed`` are seconds, of the run that trains its cells."""

    folder: Path
    plan: PlanOnDisk
    state: State
    cells: Sequence[CellStatus]
    running: Holder | None = None
    phase: str = ""  # of a running one: what it does besides training
    elapsed: float | None = None
    eta: float | None = None
    notices: Sequence[tuple[float, str]] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Cells by status."""
        found = [cell.status for cell in self.cells]
        return {status: found.count(status) for status in dict.fromkeys(found)}

    @property
    def seen(self) -> float | None:
        """The last sign of life of any cell."""
        return max((cell.seen for cell in self.cells if cell.seen is not None), default=None)


def status_of(folder: Path, now: float | None = None) -> MatrixStatus:
    """How far the matrix of a folder is; UserError without a plan that can be read.

    Its cells may also be trained by a run over several matrices, which is then looked at too.
    """
    now = time.time() if now is None else now
    plan = read_plan(folder)
    runners = [folder, *_runs_over_several(folder)]
    by_runner = {at: _read_sessions(at, plan.objective) for at in runners}
    running = {at: held for at in runners if (held := holder(at)) is not None}
    sessions = sorted((one for own in by_runner.values() for one in own), key=lambda one: one.started)
    live = next((own[-1] for at, own in by_runner.items() if own and _is_of(own[-1], running.get(at))), None)
    where = cells_folder(folder)
    cells = [_cell_status(plan, at, where / at.cell_hash, sessions, live) for at in plan.cells]
    held = next(iter(running.values()), None)
    notices = live.notices if live is not None else sessions[-1].notices if sessions else []
    if held is None:
        is_finished = all(cell.status in HAS_RESULT for cell in cells)
        return MatrixStatus(folder, plan, "finished" if is_finished else "not finished", cells, notices=notices)
    phase = "starts" if live is None else "writes its report" if live.has_ended else ""
    if live is None or live.has_ended:
        return MatrixStatus(folder, plan, "running", cells, held, phase, notices=notices)
    live.now = now
    return MatrixStatus(folder, plan, "running", cells, held, phase, now - live.started, live.tally.eta(), notices)


def _is_of(session: Session, held: Holder | None) -> bool:
    """Whether the process that runs the matrix is the one whose events these are."""
    if held is None:
        return False
    return held.pid is None or (session.pid, session.host) == (held.pid, held.host)


def _runs_over_several(folder: Path) -> Iterable[Path]:
    """The folders beside this one of runs that train its cells together with those of others."""
    for path in sorted(folder.resolve().parent.glob(f"*/{FILE}")):
        if path.parent == folder.resolve():
            continue
        plan = known_plan(path.parent)
        if plan is not None and folder.resolve().name in plan.members:
            yield path.parent


def _cell_status(
    plan: PlanOnDisk, at: Planned, folder: Path, sessions: Sequence[Session], live: Session | None
) -> CellStatus:
    record = read_record(folder)
    told = [one for one in sessions if at.cell_hash in one.tally.rows]
    row = told[-1].tally.rows[at.cell_hash] if told else None
    last = {**(_read_last(folder) if record is None or record["status"] == "failed" else {})}
    status, epoch = _status_and_epoch(record, row, is_live=bool(live and told and told[-1] is live), last=last)
    epochs = row.work.epochs if row is not None and row.work.epochs is not None else _planned_epochs(record, last)
    values = [one.tally.rows[at.cell_hash].best for one in told]
    curve = (record or {}).get("curve") or last.get("curve") or ()
    values += [entry.get(plan.objective) for entry in curve]
    known = [value for value in values if value is not None]
    seen = [one.seen[at.cell_hash] for one in told if at.cell_hash in one.seen]
    why = None
    if status in ("failed", "retried"):
        said = (record or {}).get("error") if status == "failed" else None
        words = [one.last_words[at.cell_hash] for one in told if at.cell_hash in one.last_words]
        why = said.strip().splitlines()[-1] if said and said.strip() else words[-1] if words else None
    return CellStatus(
        at.arm,
        at.seed,
        at.cell_hash,
        status,
        epoch,
        epochs,
        min(known, default=None),
        row.retries if row is not None else 0,
        max([*seen, *_written(folder)], default=None),
        why,
    )


def _status_and_epoch(
    record: Record | None, row: Row | None, is_live: bool, last: Mapping[str, Any]
) -> tuple[str, int]:
    saved = max(len(last.get("curve", ())), row.epoch if row is not None else 0)
    if row is not None and is_live:
        return row.status, saved if row.status != "done" else row.epoch
    if record is not None and record["status"] != "failed":
        return record["status"], int(record["epochs"])
    has_begun_since = row is not None and row.status in ("running", *GOES_ON)
    if (record is not None or (row is not None and row.status == "failed")) and not has_begun_since:
        return "failed", saved
    return ("interrupted", saved) if saved else ("not run", 0)


def _read_last(folder: Path) -> dict[str, Any]:
    """The curve in a cell's newest checkpoint that can be read, with the epochs planned; empty without one."""
    for path in sorted((folder / "checkpoints").glob("epoch-*"), reverse=True):
        try:
            progress = json.loads((path / "progress.json").read_text())
            config = json.loads((path / "config.json").read_text())
            return {"curve": progress["curve"], "epochs": config["training"]["epochs"]}
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return {}


def _planned_epochs(record: Record | None, last: Mapping[str, Any]) -> int | None:
    epochs = record["config"].get("training", {}).get("epochs") if record else last.get("epochs")
    return int(epochs) if epochs is not None else None


def _written(folder: Path) -> Iterable[float]:
    """When something of a cell was last written."""
    for name in ("log.txt", "record.json", "checkpoints"):
        try:
            yield (folder / name).stat().st_mtime
        except OSError:
            continue
