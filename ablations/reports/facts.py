"""What a report says besides the numbers: the rule that ran, what is unfinished, time, provenance, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablations.cells import CellResult
from experiments.provenance import installed_text

Facts = tuple[tuple[str, str], ...]  # name and text, both plain


@dataclass(frozen=True)
class RunInfo:
    """What the driver knows and no record says; ``slots`` is the number of trials at once."""

    dataset: str
    profile: str
    command: str
    step_minutes: int | None = None
    unit: str = ""
    wall_seconds: float | None = None
    slots: int | None = None
    claimed_params: Mapping[str, int] = field(default_factory=dict)  # by arm, in the full profile
    notes: tuple[str, ...] = ()  # shown as warnings
    looks: tuple[int, ...] = ()  # the number of seeds at each look at the report, this one last
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by arm: the fields chosen for it, and values
    tuning_note: str = ""  # how those were chosen, and what the other candidates reached


@dataclass(frozen=True)
class Unfinished:
    """A cell that is not done, and why."""

    arm: str
    seed: int
    status: str
    reason: str
    cell_hash: str


def unfinished(cell: CellResult) -> Unfinished:
    """Why a cell is not done: the scheduler that stopped it, its divergence, or the last line of its error."""
    record = cell.record or {}
    epochs = record.get("epochs")
    reason = {
        "not run": "no record yet: not begun, or interrupted; the same command goes on with it",
        "stopped": f"by {_settings(record.get('stopped_by'))}, after epoch {epochs}",
        "diverged": f"NaN or infinity in loss or validation, after epoch {epochs}",
    }.get(cell.status, "")
    error = str(record.get("error") or "").strip().splitlines()
    return Unfinished(cell.arm, cell.seed, cell.status, "; ".join(filter(None, [reason, *error[-1:]])), cell.cell_hash)


def warnings(results: Iterable[CellResult]) -> tuple[str, ...]:
    """What a reader of the table must know: a selection by early stopping, cells unequal beyond their arm and seed."""
    results = list(results)
    stopped = [cell for cell in results if cell.status == "stopped"]
    records = [result.record for result in results if result.record]
    named = {
        "data sets": [record.get("data_hash") for record in records],
        "profiles": [record.get("profile") for record in records],
        "commits": [_of(record, "git_commit") for record in records],
        "torch versions": [(_of(record, "versions") or {}).get("torch") for record in records],
    }
    counts = f"{len(stopped)} of {len(results)} cells early"
    selection = f"A search stopped {counts}: differences among the arms that finished are those of a selection."
    if all(((cell.record or {}).get("stopped_by") or {}).get("type") == "futility" for cell in stopped):
        selection = f"The rule futility stopped {counts}: their arms are neither averaged nor compared."
    unequal = tuple(
        f"The cells come from {len(different)} {what}: {', '.join(different)}."
        for what, values in named.items()
        if len(different := sorted({str(value) for value in values if value is not None})) > 1
    )
    return (selection, *unequal) if stopped else unequal


def timing(results: Sequence[CellResult], info: RunInfo) -> Facts:
    """Cells and hours, of this run and of all cells."""
    recorded = [result for result in results if result.record]
    trained = [result for result in recorded if not result.reused]
    training = sum(result.value("train_seconds") or 0.0 for result in trained)
    counts = f"{len(results)}: {len(trained)} trained in this run, {len(recorded) - len(trained)} done before"
    missing = len(results) - len(recorded)
    rows = [
        ("cells", counts + (f", {missing} not run" if missing else "")),
        ("training time of all cells", _duration(sum(result.value("train_seconds") or 0.0 for result in recorded))),
        (
            "training time of the cells that ended in this run",
            _duration(training),
        ),
    ]
    if info.wall_seconds is not None:
        rows.append(("wall time of this run", _duration(info.wall_seconds)))
        if info.slots:
            rows.append(("slot-hours of this run", f"{info.slots * info.wall_seconds / 3600:.2f} ({info.slots} slots)"))
    return tuple(rows)


def provenance(results: Iterable[CellResult], info: RunInfo) -> Facts:
    """Command, commit, data, versions and hardware, as the records have them; several different ones are all named."""
    records = [result.record for result in results if result.record]
    rows: list[tuple[str, list[Any]]] = [
        ("command", [info.command]),
        ("git commit", [_commit(record) for record in records]),
        ("data hash", [record.get("data_hash") for record in records]),
        ("versions", [_pairs(_of(record, "versions")) for record in records]),
        ("hardware", [_pairs(_of(record, "hardware")) for record in records]),
        ("device, threads, workers", [_pairs(record.get("machine")) for record in records]),
        ("first start", sorted(_times(records, "started"))[:1]),
        ("last end", sorted(_times(records, "ended"))[-1:]),
    ]
    return tuple((name, "; ".join(sorted({str(value) for value in values if value})) or "-") for name, values in rows)


def repeat_commands(results: Iterable[CellResult]) -> tuple[tuple[str, int, str], ...]:
    """Arm, seed and the command that repeats the cell, for every cell that has a record."""
    return tuple((cell.arm, cell.seed, str(_of(cell.record, "repeat") or "-")) for cell in results if cell.record)


def _of(record: Mapping[str, Any], key: str) -> Any:
    return (record.get("provenance") or {}).get(key)


def _times(records: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return [str(_of(record, key)) for record in records if _of(record, key)]


def _commit(record: Mapping[str, Any]) -> str:
    commit = _of(record, "git_commit")
    if not commit:
        return installed_text(_of(record, "versions"))
    return f"{commit} with uncommitted changes" if _of(record, "git_dirty") else str(commit)


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values or "")
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _settings(stopped_by: Any) -> str:
    if not isinstance(stopped_by, Mapping):
        return _pairs(stopped_by) or "the scheduler"
    told = {key: value for key, value in stopped_by.items() if key != "against"}  # hashes of cells
    lists = {key: ", ".join(map(str, value)) for key, value in told.items() if isinstance(value, list)}
    return _pairs({**told, **lists})


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.2f} h"
