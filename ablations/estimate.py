"""What a run is expected to take, before it starts: seconds of each cell, hours of slots and GPUs, makespan, disk."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.groups import Group
from ablations.plan import Plan, PlannedCell
from altformer.config import Config
from cluster.budget import Budget
from experiments import provenance
from experiments.cell import Cell, Machine, Record, read_record
from experiments.pace import Pace, cost_key, load_of, median_pace, recorded_pace

if TYPE_CHECKING:
    from cluster.connection import Connection

_RECORDS = 5  # of one configuration: the newest count
_START_SECONDS = 5.0  # of a slot's processes, once
_CHECKPOINTS = 4  # kept of a cell at most: the best, the last, the one before, and the best until then
_BYTES_PER_WEIGHT = 12  # float32, with the two moments of Adam
_CELL_BYTES = 500_000  # record, curve, test errors, sample, MLflow's rows


@dataclass(frozen=True)
class Estimate:
    """What the cells to run are expected to take, in the order in which they get their slots.

    ``seconds`` are in a slot by cell hash, absent where nothing is known, ``sources`` say where they come from.
    ``upper`` tells that cells may end sooner, by their patience or by a scheduler. ``gpus`` are those of one trial.
    """

    to_run: Sequence[str]
    seconds: Mapping[str, float]
    sources: Mapping[str, str]
    slots: int
    gpus: float
    upper: bool
    disk_bytes: int
    free_bytes: int
    problems: Mapping[str, str] = field(default_factory=dict)  # by the arm's name: why it could not be timed

    @property
    def slot_hours(self) -> float:
        """Hours in slots, of all cells whose seconds are known."""
        return sum(self.seconds.get(key, 0.0) for key in self.to_run) / 3600

    @property
    def gpu_hours(self) -> float:
        """The same times the GPUs of a trial."""
        return self.slot_hours * self.gpus

    @property
    def makespan_seconds(self) -> float:
        """Until the last cell has ended."""
        return max(self.ends(), default=0.0)

    def ends(self) -> list[float]:
        """Seconds from the start until each cell ends, handed in order to slots as they fall free."""
        slots = [_START_SECONDS] * max(self.slots, 1)
        ends = []
        for key in self.to_run:
            ends.append(slots[0] + self.seconds.get(key, 0.0))
            heapq.heapreplace(slots, ends[-1])
        return ends

    def fits(self, budget: Budget) -> int:
        """How many of the cells are expected to be finished within a budget."""
        spent, fitting = budget.spent, 0
        hours, gpu_hours = budget.hours, budget.gpu_hours
        used = spent.gpu_hours
        for started, (key, end) in enumerate(zip(self.to_run, self.ends(), strict=True), 1):
            used += self.seconds.get(key, 0.0) / 3600 * self.gpus
            in_time = hours is None or spent.hours + end / 3600 <= hours
            in_gpu_time = gpu_hours is None or used <= gpu_hours
            in_number = budget.cells_left is None or started <= budget.cells_left
            fitting += in_time and in_gpu_time and in_number
        return fitting


def estimate(
    group: Group, slots: int, gpus: float, connection: Connection | None = None, probe_seconds: float = 0.0
) -> Estimate:
    """What the cells to run of one data set's plans are expected to take.

    A configuration's pace is that of its newest records on a machine of this kind, whatever their seeds, epochs and
    rates; else a probe of a few training steps, here or on the cluster of ``connection``; else, where
    ``probe_seconds`` for all of them were too few, that of the most similar model, in proportion to the parameters.
    ``gpus`` are those that a trial holds. What is known only when the run reaches it is as long as in the plan: cells
    that end early, by patience or a scheduler, take less.
    """
    plans = [*([group.union] if group.union is not None else []), *group.plans]
    cells = {at.cell.hash: (plan, at) for plan in reversed(plans) for at in plan.to_run}
    order = list(dict.fromkeys(at.cell.hash for plan in plans for at in plan.to_run))
    named = {at.cell.hash: at.arm for plan in group.plans for at in plan.to_run}
    firsts: dict[str, tuple[Plan, PlannedCell]] = {}
    for key in order:
        firsts.setdefault(cost_key(cells[key][1].cell.config), cells[key])
    paces, sources, problems = _paces(firsts, slots, connection, probe_seconds)
    seconds, of_cell = {}, {}
    for key in order:
        plan, at = cells[key]
        config = at.cell.config
        kind = cost_key(config)
        if kind in paces:
            load = load_of(config, plan.data, plan.params[at.arm])
            seconds[key] = paces[kind].seconds(load, epochs_done(at.cell))
            of_cell[key] = sources[kind]
    needed = sum(cells[key][0].params[cells[key][1].arm] * _BYTES_PER_WEIGHT * _CHECKPOINTS for key in order)
    out = plans[0].folder.parent
    return Estimate(
        to_run=order,
        seconds=seconds,
        sources=of_cell,
        slots=slots,
        gpus=gpus,
        upper=any(_may_end_early(plan, at) for plan in plans for at in plan.to_run),
        disk_bytes=needed + len(order) * _CELL_BYTES,
        free_bytes=shutil.disk_usage(_existing(out)).free,
        problems={named.get(firsts[kind][1].cell.hash, firsts[kind][1].arm): why for kind, why in problems.items()},
    )


def with_estimate(group: Group, found: Estimate) -> Group:
    """The group whose plans expect their cells to take as long as was found."""
    union = replace(group.union, expected=found.seconds) if group.union is not None else None
    return replace(group, plans=[replace(plan, expected=found.seconds) for plan in group.plans], union=union)


_Firsts = Mapping[str, tuple[Plan, PlannedCell]]  # by cost key: the first cell that has it


def _paces(
    firsts: _Firsts, slots: int, connection: Connection | None, probe_seconds: float
) -> tuple[dict[str, Pace], dict[str, str], dict[str, str]]:
    """Pace and its source of each kind of configuration, and why a probe of one has failed."""
    if not firsts:
        return {}, {}, {}
    plan, at = next(iter(firsts.values()))
    here = connection is None or connection.local
    paces, sources, problems = {}, {}, {}
    for kind, several in _recorded(firsts, at.cell.folder.parent, here).items():
        paces[kind] = median_pace(several)
        sources[kind] = f"{len(several)} record" + "s" * (len(several) > 1)
    missing = [one for kind, (_, one) in firsts.items() if kind not in paces]
    by_hash = _probed([one.cell for one in missing], plan, slots, connection, probe_seconds)
    for kind, (_, one) in firsts.items():
        pace = by_hash.get(one.cell.hash)
        if isinstance(pace, str):
            problems[kind] = pace
        elif pace is not None:
            paces[kind], sources[kind] = pace, "probe"
    guessed = {
        kind: like for kind in firsts if kind not in {*paces, *problems} and (like := _alike(kind, firsts, paces))
    }
    return {**paces, **guessed}, {**sources, **dict.fromkeys(guessed, "guess")}, problems


def _recorded(firsts: _Firsts, cells: Path, here: bool) -> dict[str, list[Pace]]:
    """The paces of the newest records of each kind of configuration, on the same data and kind of machine."""
    plan, at = next(iter(firsts.values()))
    machine = _hardware(at.cell.machine) if here else None
    found: dict[str, list[Pace]] = {}
    for record in _records(cells):
        if record.get("data_hash") != at.cell.data_hash or record.get("machine") != asdict(at.cell.machine):
            continue
        if machine is not None and not machine.items() <= (record["provenance"].get("hardware") or {}).items():
            continue
        try:
            config = Config.model_validate(record["config"])
        except ValueError:  # of another version
            continue
        kind = cost_key(config)
        if (
            kind in firsts
            and len(found.get(kind, ())) < _RECORDS
            and (pace := recorded_pace(record, config, plan.data))
        ):
            found.setdefault(kind, []).append(pace)
    return found


def _records(cells: Path) -> Iterator[Record]:
    """The records of cells below a folder, newest first."""
    files = sorted(cells.glob("*/record.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for file in files:
        record = read_record(file.parent)
        if record is not None and record.get("curve"):
            yield record


def _hardware(machine: Machine) -> dict[str, Any]:
    """What of this machine decides how fast cells are, as their records name it.

    The GPU is not asked for: torch would hold memory of it in this process for as long as it lives.
    """
    found = provenance.hardware("cpu")
    return {"cpu": found["cpu"], "cores": found["cores"]} if machine.device == "cpu" else {}


def _probed(
    cells: Sequence[Cell], plan: Plan, slots: int, connection: Connection | None, seconds: float
) -> dict[str, Pace | str]:
    """The probes of cells, on this machine or where the trials will be."""
    from experiments.probe import probe_here, probe_or_error

    if not cells or seconds <= 0:
        return {}
    print(f"Timing a few steps of {len(cells)} model{'s' * (len(cells) > 1)}, up to {seconds:g} s", flush=True)
    if connection is None:
        workers = cells[0].machine.workers
        return probe_here(cells, plan.data, min(slots, len(plan.to_run)) * workers, seconds)
    from cluster.tasks import call_on_cluster

    resources = plan.matrix.resources.resolved(connection.nodes)
    paces = call_on_cluster(probe_or_error, cells, plan.data, resources, seconds)
    return {cell.hash: pace for cell, pace in zip(cells, paces, strict=True) if pace is not None}


def _alike(kind: str, firsts: _Firsts, paces: Mapping[str, Pace]) -> Pace | None:
    """The pace of the known model with the nearest number of parameters, in proportion to it."""
    own = _params(firsts[kind])
    known = [(abs(_params(firsts[one]) - own), one) for one in paces]
    if not known or not own:
        return None
    nearest = min(known)[1]
    return paces[nearest].times(own / max(_params(firsts[nearest]), 1))


def _params(planned: tuple[Plan, PlannedCell]) -> int:
    plan, at = planned
    return plan.params[at.arm]


def epochs_done(cell: Cell) -> int:
    """The epochs that a cell's newest checkpoint holds, from its name."""
    names = [path.name.removeprefix("epoch-") for path in (cell.folder / "checkpoints").glob("epoch-*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _may_end_early(plan: Plan, at: PlannedCell) -> bool:
    training = at.cell.config.training
    return plan.matrix.scheduler.type != "none" or training.patience < training.epochs


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
