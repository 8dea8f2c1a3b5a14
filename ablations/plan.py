"""Before a matrix starts: its cells, what of them is done already, and where everything goes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations.arms import (
    Arm,
    expand,
    refuse_other_data,
    refuse_set_fields,
    refuse_set_tuned,
    resolve_arms,
    settings_fields,
    tuned_fields,
    varied_fields,
)
from ablations.candidates import Tuning
from ablations.earlier import read_earlier
from ablations.early_stopping import Asha, Futility
from ablations.matrix import Matrix
from altformer.config import Config
from altformer.data.datasets import TrafficData
from altformer.errors import UserError
from altformer.files import write_json
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from experiments.cell import Cell, Machine, Record, make_cell, read_record
from experiments.compose import compose
from experiments.fields import locate

PLAN_SCHEMA = 2


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
    members: tuple[str, ...] = ()  # the names of the folders of the matrices whose distinct cells these are
    expected: Mapping[str, float] = field(default_factory=dict)  # seconds in a slot by cell hash, for cells to run
    joined: Sequence[Plan] = ()  # those of them that it runs the cells of
    looks: tuple[int, ...] = ()  # the numbers of seeds at which a report was made with every cell settled
    tuning: Tuning | None = None  # what was chosen for each arm before

    def settled(self, planned: PlannedCell) -> bool:
        """Done and diverged cells are; a stopped one only under the very scheduler that stopped it.

        In a plan of several matrices a cell is settled when it is in all that have it.
        """
        rules = [one.scheduler for one in self.joined if planned.cell.hash in one.hashes] or [self.scheduler]
        return all(_settled(planned, rule) for rule in rules)

    @cached_property
    def hashes(self) -> frozenset[str]:
        """The hashes of all cells."""
        return frozenset(at.cell.hash for at in self.cells)

    @property
    def to_run(self) -> list[PlannedCell]:
        """Cells that are not settled."""
        return [planned for planned in self.cells if not self.settled(planned)]

    def refreshed(self) -> Plan:
        """The same plan with the cells' records as they are on disk now."""
        cells = [PlannedCell(at.arm, at.seed, at.cell, read_record(at.cell.folder)) for at in self.cells]
        return replace(self, cells=cells)

    def write(self) -> None:
        """Write ``plan.json``: the matrix, its arms, every cell with its hash; ``tuned.json`` where arms were tuned."""
        for name, content in self._files().items():
            write_json(self.folder / name, content)

    def is_written(self) -> bool:
        """Whether its files say just this: the same cells, settled as they are."""
        try:
            return all(json.loads((self.folder / name).read_text()) == own for name, own in self._files().items())
        except (OSError, ValueError):
            return False

    def _files(self) -> dict[str, dict[str, Any]]:
        tuned = {} if self.tuning is None else {"tuned.json": self.tuning.content()}
        return {"plan.json": self._content(), **tuned}

    def _content(self) -> dict[str, Any]:
        cells = [
            {"arm": at.arm, "seed": at.seed, "cell_hash": at.cell.hash, "settled": self.settled(at)}
            for at in self.cells
        ]
        arms = [{"name": arm.name, "settings": arm.settings, "is_baseline": arm.is_baseline} for arm in self.arms]
        return {
            "schema": PLAN_SCHEMA,
            "matrix": self.matrix.model_dump(mode="json"),
            "arms": arms,
            "profile": self.profile,
            "dataset": self.data.name,
            "data_hash": self.data.identity,
            "scheduler": self.scheduler,
            "params": dict(self.params),
            "cells": cells,
            "members": list(self.members),
            "looks": list(self.looks),
        }


def configurations(
    matrix: Matrix, arms: Sequence[Arm], dataset: str | None, profile: str, settings: Mapping[str, Any]
) -> dict[str, Config]:
    """The configuration of every arm (with seed 0); UserError for arms that conflict with ``--set`` or are equal.

    The profile is the one that the matrix has been settled for (``Matrix.of``). ``--set`` wins over the matrix's own
    ``settings``; neither they nor what arms vary is touched by the profile.
    """
    refuse_set_fields(arms, settings)
    refuse_set_tuned(matrix, settings)
    refuse_other_data(arms)
    varied = varied_fields(arms) | settings_fields(matrix) | set(tuned_fields(matrix).values())
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
    first_seed: int = 0,
    keep_seeds: bool = False,
    tuning: Tuning | None = None,
) -> Plan:
    """The cells of a matrix on one data set, arm by arm within each seed, so that whole seeds are finished first.

    With ``keep_seeds`` the seeds beyond those asked for that an earlier plan of the same folder has, settled in every
    arm that had them, are part of this one: a run with fewer seeds must not replace a report on more. With ``tuning``
    every arm gets the values that were chosen for it.
    """
    as_written, matrix = matrix, matrix.of(profile)
    arms, notes = _arms_on(data, matrix, tuning)
    configs = configurations(matrix, arms, dataset, profile, settings)
    _refuse_late_grace(matrix, profile, configs)
    _refuse_futility_without_baseline(matrix)
    folder = out.resolve() / f"{matrix.slug}-{data.name}-{_short(matrix, data, machine, profile, settings)}"
    scheduler = {**matrix.scheduler.model_dump(mode="json"), "profile": profile, "metric": matrix.objective}
    if isinstance(matrix.scheduler, Futility) and matrix.baseline in configs:
        first = configs[matrix.baseline].model_copy(update={"seed": 0})
        scheduler["against"] = [make_cell(first, machine, data.identity, out, profile).hash]

    def of_seed(seed: int) -> list[PlannedCell]:
        made = {
            name: make_cell(config.model_copy(update={"seed": seed}), machine, data.identity, out, profile)
            for name, config in configs.items()
        }
        return [PlannedCell(name, seed, cell, read_record(cell.folder)) for name, cell in made.items()]

    cells = [at for seed in range(first_seed, first_seed + seeds) for at in of_seed(seed)]
    earlier = read_earlier(folder)
    for seed in range(seeds, earlier.count if keep_seeds else seeds):
        more = [at for at in of_seed(seed) if seed in earlier.seeds.get(at.arm, ())]
        if not all(_settled(at, scheduler) for at in more):
            break
        cells += more
    params = {name: _parameters(config, data) for name, config in configs.items()}
    claimed = params if profile == "full" else _claimed_parameters(as_written, data, dataset, settings)
    return Plan(
        matrix=matrix,
        arms=arms,
        cells=cells,
        data=data,
        profile=profile,
        folder=folder,
        params=params,
        scheduler=scheduler,
        claimed_params=claimed,
        notes=notes,
        looks=earlier.looks,
        tuning=tuning,
    )


def _arms_on(data: TrafficData, matrix: Matrix, tuning: Tuning | None) -> tuple[list[Arm], tuple[str, ...]]:
    """The arms that the data allow, with the values tuned for them, and what is to be said of both."""
    left_out = matrix.needs_graph if data.adjacency is None else ()
    notes = [f"Arm {name} is left out: it needs a road graph, and {data.name} has none here." for name in left_out]
    arms = [arm for arm in expand(matrix) if arm.name not in left_out]
    if tuning is None:
        return arms, tuple(notes)
    arms = [replace(arm, settings={**arm.settings, **tuning.chosen.get(arm.name, {})}) for arm in arms]
    return arms, (*notes, *tuning.warnings)


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
        return _is_by(record["stopped_by"], scheduler)
    return record["status"] in ("done", "diverged")


def _is_by(stopped_by: Mapping[str, Any] | None, scheduler: Mapping[str, Any]) -> bool:
    """Whether a cell was stopped by this rule; against several baselines, if this rule's is one of them."""
    own, found = dict(scheduler), dict(stopped_by or {})
    against = set(own.pop("against", ())) <= set(found.pop("against", ()))
    return against and own == found


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


def _refuse_futility_without_baseline(matrix: Matrix) -> None:
    """UserError where arms are to be judged against a baseline that there is not."""
    if isinstance(matrix.scheduler, Futility) and matrix.baseline is None:
        raise UserError(
            f"{matrix.where('scheduler')}: futility judges every arm against the baseline, and none is named; name an "
            "arm as baseline:, or use asha or none"
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
