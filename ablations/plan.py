"""Before a matrix starts: its cells, what of them is done already, and where everything goes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.arms import (
    Arm,
    expand,
    refuse_other_data,
    refuse_set_fields,
    resolve_arms,
    settings_fields,
    varied_fields,
)
from ablations.matrix import Asha, Matrix
from altformer.config import Config
from altformer.data.datasets import TrafficData
from altformer.errors import UserError
from altformer.files import write_json
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from experiments.cell import Cell, Machine, Record, make_cell, read_record
from experiments.compose import compose
from experiments.fields import locate


@dataclass(frozen=True)
class PlannedCell:
    """One arm with one seed, and its record if it has been run."""

    arm: str
    seed: int
    cell: Cell
    record: Record | None

    @property
    def name(self) -> str:
        """For people: arm and seed."""
        return f"{self.arm} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """A matrix resolved to cells: what will run, and what need not."""

    matrix: Matrix
    arms: Sequence[Arm]
    cells: Sequence[PlannedCell]
    data: TrafficData
    profile: str
    folder: Path
    params: Mapping[str, int]  # parameters of each arm's model
    scheduler: dict[str, Any]  # as it is noted in the records of cells it stops
    claimed_params: Mapping[str, int] = field(default_factory=dict)  # those of the full profile that claims are about
    notes: tuple[str, ...] = ()  # what a reader must know besides the cells
    expected: Mapping[str, float] = field(default_factory=dict)  # seconds in a slot by cell hash, for cells to run

    def settled(self, planned: PlannedCell) -> bool:
        """Done and diverged cells are; a stopped one only under the very scheduler that stopped it."""
        return _settled(planned, self.scheduler)

    @property
    def to_run(self) -> list[PlannedCell]:
        """Cells that are not settled."""
        return [planned for planned in self.cells if not self.settled(planned)]

    def refreshed(self) -> Plan:
        """The same plan with the cells' records as they are on disk now."""
        cells = [PlannedCell(at.arm, at.seed, at.cell, read_record(at.cell.folder)) for at in self.cells]
        return replace(self, cells=cells)

    def write(self) -> None:
        """Write ``plan.json``: the matrix, its arms and every cell with its hash."""
        write_json(self.folder / "plan.json", self._content())

    def is_written(self) -> bool:
        """Whether ``plan.json`` says just this: the same cells, settled as they are."""
        try:
            return bool(json.loads((self.folder / "plan.json").read_text()) == self._content())
        except (OSError, ValueError):
            return False

    def _content(self) -> dict[str, Any]:
        cells = [
            {"arm": at.arm, "seed": at.seed, "cell_hash": at.cell.hash, "settled": self.settled(at)}
            for at in self.cells
        ]
        return {
            "matrix": self.matrix.model_dump(mode="json"),
            "profile": self.profile,
            "dataset": self.data.name,
            "data_hash": self.data.identity,
            "scheduler": self.scheduler,
            "params": dict(self.params),
            "cells": cells,
        }


def configurations(
    matrix: Matrix, arms: Sequence[Arm], dataset: str | None, profile: str, settings: Mapping[str, Any]
) -> dict[str, Config]:
    """The configuration of every arm (with seed 0); UserError for arms that conflict with ``--set`` or are equal.

    The profile is the one that the matrix has been settled for (``Matrix.of``). ``--set`` wins over the matrix's own
    ``settings``; neither they nor what arms vary is touched by the profile.
    """
    refuse_set_fields(arms, settings)
    refuse_other_data(arms)
    varied = varied_fields(arms) | settings_fields(matrix)
    if "seed" in {*varied, *settings}:
        raise UserError("seed: a matrix runs every arm with the seeds 0..N-1; choose N with --seeds or seeds:")

    def resolve(arm: Arm) -> Config:
        return compose_with(matrix, settings, dataset=dataset, profile=profile, arm=arm.settings, varied=varied)

    return resolve_arms(arms, resolve)


def compose_with(matrix: Matrix, settings: Mapping[str, Any], **layers: Any) -> Config:
    """The base experiment under the matrix's own ``settings`` and, over them, those of ``--set``.

    The matrix is settled for the profile; ``layers`` are those of ``compose``. UserError for a mistake in the matrix's
    ``settings``, with its file and line.
    """
    settings_fields(matrix)
    try:
        return compose(matrix.base_file, settings={**matrix.settings, **settings}, **layers)
    except UserError as error:
        text = str(error)
        for name in matrix.settings.keys() - settings.keys():
            text = re.sub(rf"--set {re.escape(name)}\b", matrix.where("settings", name).replace("\\", r"\\"), text)
        raise UserError(text) from None


def make_plan(
    matrix: Matrix,
    data: TrafficData,
    machine: Machine,
    *,
    dataset: str | None,
    profile: str,
    settings: Mapping[str, Any],
    seeds: int,
    out: Path,
    keep_seeds: bool = False,
) -> Plan:
    """The cells of a matrix on one data set, arm by arm within each seed, so that whole seeds are finished first.

    With ``keep_seeds`` the seeds beyond those asked for that an earlier plan of the same folder has, settled in every
    arm, are part of this one: a run with fewer seeds must not replace a report on more.
    """
    as_written, matrix = matrix, matrix.of(profile)
    arms = expand(matrix)
    left_out = matrix.needs_graph if data.adjacency is None else ()
    arms = [arm for arm in arms if arm.name not in left_out]
    configs = configurations(matrix, arms, dataset, profile, settings)
    _refuse_late_grace(matrix, profile, configs)
    folder = out.resolve() / f"{matrix.slug}-{data.name}-{_short(matrix, data, machine, profile, settings)}"
    scheduler = {**matrix.scheduler.model_dump(mode="json"), "profile": profile, "metric": matrix.objective}

    def of_seed(seed: int) -> list[PlannedCell]:
        made = {
            name: make_cell(config.model_copy(update={"seed": seed}), machine, data.identity, out, profile)
            for name, config in configs.items()
        }
        return [PlannedCell(name, seed, cell, read_record(cell.folder)) for name, cell in made.items()]

    cells = [at for seed in range(seeds) for at in of_seed(seed)]
    for seed in range(seeds, _earlier_seeds(folder) if keep_seeds else seeds):
        more = of_seed(seed)
        if not all(_settled(at, scheduler) for at in more):
            break
        cells += more
    params = {name: _parameters(config, data) for name, config in configs.items()}
    claimed = params if profile == "full" else _claimed_parameters(as_written, data, dataset, settings)
    notes = tuple(f"Arm {name} is left out: it needs a road graph, and {data.name} has none here." for name in left_out)
    return Plan(matrix, arms, cells, data, profile, folder, params, scheduler, claimed, notes)


def _short(matrix: Matrix, data: TrafficData, machine: Machine, profile: str, settings: Mapping[str, Any]) -> str:
    """What distinguishes a matrix's folder from those of its other settings: six hex digits."""
    identity = {
        "matrix": matrix.name,
        "data": data.identity,
        "profile": profile,
        "settings": {locate(name, "--set"): str(value) for name, value in settings.items()},
        "machine": asdict(machine),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]


def _settled(planned: PlannedCell, scheduler: Mapping[str, Any]) -> bool:
    record = planned.record
    if record is None:
        return False
    if record["status"] == "stopped":
        return bool(record["stopped_by"] == scheduler)
    return record["status"] in ("done", "diverged")


def _earlier_seeds(folder: Path) -> int:
    """The number of seeds in the plan that a folder holds; 0 without one."""
    try:
        cells = json.loads((folder / "plan.json").read_text())["cells"]
        return 1 + max((int(cell["seed"]) for cell in cells), default=-1)
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _refuse_late_grace(matrix: Matrix, profile: str, configs: Mapping[str, Config]) -> None:
    """UserError where a scheduler would first look at a cell after the last epoch of every arm."""
    if not isinstance(matrix.scheduler, Asha):
        return
    grace, epochs = matrix.scheduler.grace_period.of(profile), max(one.training.epochs for one in configs.values())
    if grace > epochs:
        raise UserError(
            f"{matrix.where('scheduler', 'grace_period')}: grace_period must be at most the epochs of a cell: "
            f"grace_period {grace}, epochs {epochs}"
        )


def _claimed_parameters(
    matrix: Matrix, data: TrafficData, dataset: str | None, settings: Mapping[str, Any]
) -> dict[str, int]:
    """Parameters in the full profile of the arms that a claim on parameters names, and of the baseline."""
    about = {claim.arm for claim in matrix.claims if claim.parameters_fewer is not None or claim.parameters is not None}
    if not about:
        return {}
    matrix = matrix.of("full")
    configs = configurations(matrix, expand(matrix), dataset, "full", settings)
    return {name: _parameters(config, data) for name, config in configs.items() if name in {*about, matrix.baseline}}


def _parameters(config: Config, data: TrafficData) -> int:
    """Count on a model built for it; UserError where model and windows do not fit."""
    return count_parameters(build_model(config.model, ForecastShape.of(config, data)))
