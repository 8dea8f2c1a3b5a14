"""A matrix resolved to cells: what of them is done already, and where everything goes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations.arms import Arm
from ablations.candidates import Tuned
from ablations.cells import CellResult
from ablations.folders import PLAN, TUNED
from ablations.matrix import Matrix
from altformer.data.traffic import TrafficData
from altformer.files import write_json
from experiments.cell import FINISHED, Cell, Record, read_record

PLAN_SCHEMA = 2  # that of PlanOnDisk


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

    @property
    def result(self) -> CellResult:
        """As reports have it."""
        return CellResult(self.arm, self.seed, self.cell.hash, self.record, folder=self.cell.folder)

    @property
    def has_failed(self) -> bool:
        """Whether its last attempt failed."""
        return self.record is not None and self.record["status"] == "failed"


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
    tuned: Tuned | None = None  # what was chosen for each arm before

    def settled(self, planned: PlannedCell) -> bool:
        """Done and diverged cells are; a stopped one only under the very scheduler that stopped it.

        In a plan of several matrices a cell is settled when it is in all that have it.
        """
        record = planned.record
        return record is not None and all(settles(record, rule) for rule in self.rules_of(planned))

    def rules_of(self, planned: PlannedCell) -> list[dict[str, Any]]:
        """The schedulers, as records note them, of the matrices that have a cell."""
        return [one.scheduler for one in self.parts if planned.cell.hash in one.hashes]

    @property
    def parts(self) -> Sequence[Plan]:
        """The plans that it joins, or itself."""
        return self.joined or [self]

    @cached_property
    def hashes(self) -> frozenset[str]:
        """The hashes of all cells."""
        return frozenset(at.cell.hash for at in self.cells)

    @property
    def to_run(self) -> list[PlannedCell]:
        """Cells that are not settled."""
        return [planned for planned in self.cells if not self.settled(planned)]

    def refreshed(self, unwritten: Mapping[str, Record] = MappingProxyType({})) -> Plan:
        """The same plan with the cells' records as they are now: on disk, or by hash among the ``unwritten``.

        That a cell has failed is not forgotten where there was no room to write it.
        """

        def record(at: PlannedCell) -> Record | None:
            known = at.record if at.has_failed else None
            return unwritten.get(at.cell.hash) or read_record(at.cell.folder) or known

        return replace(self, cells=[replace(at, record=record(at)) for at in self.cells])

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
        tuned = {} if self.tuned is None else {TUNED: self.tuned.content()}
        return {PLAN: self._content(), **tuned}

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


def settles(record: Record, scheduler: Mapping[str, Any]) -> bool:
    """Whether the cell of a record need not run under a rule, given as records note it."""
    if record["status"] == "stopped":
        return _is_by(record["stopped_by"], scheduler)
    return record["status"] in FINISHED


def _is_by(stopped_by: Mapping[str, Any] | None, scheduler: Mapping[str, Any]) -> bool:
    """Whether a cell was stopped by this rule; against several baselines, if this rule's is one of them."""
    own, found = dict(scheduler), dict(stopped_by or {})
    against = set(own.pop("against", ())) <= set(found.pop("against", ()))
    return against and own == found
