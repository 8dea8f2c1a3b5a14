"""What has changed since a matrix was run before: cells that were done then, and are others now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.folders import PLAN, cells_folder, known_plan
from ablations.plan import Plan, PlannedCell, settles
from altformer.errors import UserError
from experiments.cell import Record, read_record
from experiments.fields import flat
from experiments.provenance import sources_hash

PLACES = ("dataset.path", "dataset.graph")  # no part of a cell's identity
FEW = 3  # names in a line


@dataclass(frozen=True)
class Rerun:
    """Cells that run again, and what of their identity is another than that of the same arm and seed before."""

    cells: tuple[PlannedCell, ...]
    why: str

    def __str__(self) -> str:
        count = len(self.cells)
        runs = "cell runs" if count == 1 else "cells run"
        which = few([at.name for at in self.cells])
        return f"{count} {runs} again ({which}): since the last run {self.why} (what it trained stays in cells/)"


def few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def reruns(plan: Plan) -> list[Rerun]:
    """The cells to run that were done, by arm and seed, when this matrix was run last, grouped by what has changed.

    Other settings make another folder. So also the folders of the same matrix beside it are looked at, but only for
    cells of the same configuration: on other data, or for another machine.
    """
    found: dict[str, list[PlannedCell]] = {}
    before = _done_before(plan.folder) if plan.to_run else {}
    beside = _beside(plan) if any((at.arm, at.seed) not in before for at in plan.to_run) else {}
    for at in plan.to_run:
        record = before.get((at.arm, at.seed))
        if record is None:
            record = beside.get((at.arm, at.seed))
            if record is None or _fields(record["config"]) != _fields(_config(at)):
                continue
        if record["cell_hash"] != at.cell.hash:
            found.setdefault(" and ".join(_differences(record, at)), []).append(at)
    return [Rerun(tuple(cells), why) for why, cells in found.items()]


def refuse_changed(plans: Iterable[Plan]) -> None:
    """UserError where a cell that was done when a matrix was run last would run again as another one."""
    found = [str(rerun) for plan in plans for rerun in reruns(plan)]
    if found:
        raise UserError(f"--strict: {'; '.join(dict.fromkeys(found))}; without --strict they are run")


def _done_before(folder: Path) -> dict[tuple[str, int], Record]:
    """The records of the cells that were settled under a folder's last plan; nothing without one, or a broken one."""
    plan, cells = known_plan(folder), cells_folder(folder)
    if plan is None:
        return {}
    records = {(at.arm, at.seed): read_record(cells / at.cell_hash) for at in plan.cells}
    return {key: record for key, record in records.items() if record and settles(record, plan.scheduler)}


def _beside(plan: Plan) -> dict[tuple[str, int], Record]:
    """The same of the other folders of this matrix, the newest last."""
    found: dict[tuple[str, int], Record] = {}
    others = plan.folder.parent.glob(f"{plan.matrix.slug}-{plan.data.name}-??????/{PLAN}")
    for path in sorted({*others} - {plan.folder / PLAN}, key=lambda path: path.stat().st_mtime):
        found |= _done_before(path.parent)
    return found


def _differences(record: Mapping[str, Any], at: PlannedCell) -> Iterator[str]:
    """What of a cell's identity is another now, in words."""
    before, now = _fields(record["config"]), _fields(_config(at))
    fields = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if fields:
        shown = [f"{name} {_shown(before, name)} -> {_shown(now, name)}" for name in fields[:FEW]]
        more = f" and {len(fields) - FEW} more fields" if len(fields) > FEW else ""
        yield f"the configuration has changed: {', '.join(shown)}{more}"
    if record["data_hash"] != at.cell.data_hash:
        yield f"the data have changed ({record['data_hash'][:8]} -> {at.cell.data_hash[:8]})"
    machine = vars(at.cell.machine)
    if other := [name for name, value in machine.items() if record["machine"].get(name) != value]:
        shown = [f"{name} {record['machine'].get(name)} -> {machine[name]}" for name in other]
        yield f"the machine has changed: {', '.join(shown)}"
    if record.get("sources") != sources_hash():
        yield "the sources of altformer have changed"
    elif not fields and not other and record["data_hash"] == at.cell.data_hash:
        yield "the source of the model's own class has changed"


def _config(at: PlannedCell) -> dict[str, Any]:
    config: dict[str, Any] = at.cell.config.model_dump(mode="json")
    return config


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their dotted paths, without those that say where files are."""
    return {name: value for name, value in flat(config).items() if name not in PLACES}


def _shown(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else "-"
