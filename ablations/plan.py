"""Before a matrix starts: its cells, what of them is done already, and where everything goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.arms import Arm, expand, refuse_set_fields, resolve_arms, settings_fields, varied_fields
from ablations.matrix import Matrix, NoScheduler
from altformer.config import Config
from altformer.data.datasets import TrafficData
from altformer.errors import UserError
from altformer.files import write_json
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from experiments.cell import Cell, Machine, Record, make_cell, read_record
from experiments.compose import compose


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

    def settled(self, planned: PlannedCell) -> bool:
        """Done and diverged cells are; a stopped one only under the very scheduler that stopped it."""
        record = planned.record
        if record is None:
            return False
        if record["status"] == "stopped":
            return bool(record["stopped_by"] == self.scheduler)
        return record["status"] in ("done", "diverged")

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
    varied = varied_fields(arms) | settings_fields(matrix)
    if "seed" in {*varied, *settings}:
        raise UserError("seed: a matrix runs every arm with the seeds 0..N-1; choose N with --seeds or seeds:")

    layer = with_settings(matrix, settings)

    def resolve(arm: Arm) -> Config:
        return compose(
            matrix.base_file, dataset=dataset, profile=profile, settings=layer, arm=arm.settings, varied=varied
        )

    return resolve_arms(arms, resolve)


def with_settings(matrix: Matrix, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The matrix's own ``settings`` and, over them, those of ``--set``."""
    return {**matrix.settings, **settings}


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
) -> Plan:
    """The cells of a matrix on one data set, arm by arm within each seed, so that whole seeds are finished first."""
    as_written, matrix = matrix, matrix.of(profile)
    arms = expand(matrix)
    left_out = matrix.needs_graph if data.adjacency is None else ()
    arms = [arm for arm in arms if arm.name not in left_out]
    configs = configurations(matrix, arms, dataset, profile, settings)
    _refuse_late_grace(matrix, profile, configs)
    cells = []
    for seed in range(seeds):
        for arm in arms:
            config = configs[arm.name].model_copy(update={"seed": seed})
            cell = make_cell(config, machine, data.identity, out, profile)
            cells.append(PlannedCell(arm.name, seed, cell, read_record(cell.folder)))
    identity = {
        "matrix": matrix.name,
        "data": data.identity,
        "profile": profile,
        "settings": {name: str(value) for name, value in settings.items()},
        "machine": asdict(machine),
    }
    short = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]
    folder = out.resolve() / f"{matrix.slug}-{data.name}-{short}"
    scheduler = {**matrix.scheduler.model_dump(mode="json"), "profile": profile, "metric": matrix.objective}
    params = {name: _parameters(config, data) for name, config in configs.items()}
    claimed = params if profile == "full" else _claimed_parameters(as_written, data, dataset, settings)
    notes = tuple(f"Arm {name} is left out: it needs a road graph, and {data.name} has none here." for name in left_out)
    return Plan(matrix, arms, cells, data, profile, folder, params, scheduler, claimed, notes)


def _refuse_late_grace(matrix: Matrix, profile: str, configs: Mapping[str, Config]) -> None:
    """UserError where a scheduler would first look at a cell after the last epoch of every arm."""
    if isinstance(matrix.scheduler, NoScheduler):
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
