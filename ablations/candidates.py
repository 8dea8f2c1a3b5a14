"""``tune_per_arm``: the candidates of every arm, and the choice among them by validation, before anything is compared.

Arms that all run at the baseline's learning rate are compared at a rate that was chosen for one of them. So each arm
gets the values that do best for it. Candidates are trained with a seed that the comparison does not have: the cells
that are compared were not themselves selected by their validation error. The test set plays no part in the choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.arms import Arm, expand, spell, spell_value
from ablations.cells import CellResult
from ablations.matrix import Matrix
from experiments.fields import leaf

TUNING_SEED = 1000  # none of a comparison's, which are 0..N-1


@dataclass(frozen=True)
class Candidate:
    """One combination of values (field as written in ``tune_per_arm`` -> value) for one arm."""

    arm: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The arm of the tuning matrix that tries it: ``arm, lr=0.0005``."""
        return f"{self.arm}, {spell(self.values, ', ')}"


@dataclass(frozen=True)
class Tried:
    """A candidate's cell: the objective at its best epoch, None for one that diverged, failed or has not run."""

    values: Mapping[str, Any]
    cell_hash: str
    status: str
    validation: float | None


@dataclass(frozen=True)
class Tuned:
    """What was tried for each arm, and the choice that follows from it."""

    objective: str
    lists: Mapping[str, Sequence[Any]]  # the values of each field
    tried: Mapping[str, Sequence[Tried]]  # by arm

    def best(self, arm: str) -> Tried | None:
        """The candidate with the lowest objective (the first of equal ones); None where none has one."""
        having = [one for one in self.tried.get(arm, ()) if one.validation is not None]
        return min(having, key=lambda one: one.validation or 0.0, default=None)

    @property
    def chosen(self) -> dict[str, dict[str, Any]]:
        """The values that each arm gets; an arm without any candidate that finished keeps the base's, and is absent."""
        return {arm: dict(best.values) for arm in self.tried if (best := self.best(arm)) is not None}

    @property
    def note(self) -> str:
        """How the values were chosen, and what every candidate reached."""
        among = " x ".join(f"{leaf(name)} in {_listed(values)}" for name, values in self.lists.items())
        arms = "; ".join(f"{arm}: {', '.join(map(self._reached, tried))}" for arm, tried in self.tried.items())
        return (
            f"Every arm, the baseline too, was tuned before the comparison over {among}: one cell for each with seed "
            f"{TUNING_SEED}, which the comparison does not have, and the {self.objective} of its best epoch decided. "
            f"The test set played no part. {self.objective} by candidate: {arms}."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Arms that could not be tuned, and choices at the end of a list, beyond which a better value may lie."""
        found = [
            f"Arm {arm} has no tuned values: every candidate {' or '.join(sorted({one.status for one in tried}))}; it "
            "keeps those of the base."
            for arm, tried in self.tried.items()
            if self.best(arm) is None
        ]
        for field, values in self.lists.items():
            ends = _ends(values)
            at_end = [
                f"{arm} ({spell_value(best.values[field])})"
                for arm in self.tried
                if (best := self.best(arm)) is not None and best.values[field] in ends
            ]
            if at_end:
                found.append(
                    f"The best {leaf(field)} is at the end of the list {_listed(values)} for "
                    f"{', '.join(at_end)}: a better one may lie beyond it, so widen the list."
                )
        return tuple(found)

    def content(self) -> dict[str, Any]:
        """As ``tuned.json`` has it."""
        arms = {}
        for arm, tried in self.tried.items():
            candidates = [
                {
                    "values": dict(one.values),
                    "cell_hash": one.cell_hash,
                    "status": one.status,
                    self.objective: one.validation,
                }
                for one in tried
            ]
            arms[arm] = {"chosen": self.chosen.get(arm), "candidates": candidates}
        return {"seed": TUNING_SEED, "objective": self.objective, "arms": arms}

    def _reached(self, one: Tried) -> str:
        value = one.status if one.validation is None else f"{one.validation:.4f}"
        return f"{spell(one.values, ', ')} {value}"


def candidates(matrix: Matrix, arms: Sequence[Arm]) -> Iterator[Candidate]:
    """Every combination of the matrix's ``tune_per_arm`` for every arm; the matrix must be settled for a profile."""
    for arm in arms:
        for values in itertools.product(*matrix.tune_per_arm.values()):
            yield Candidate(arm.name, dict(zip(matrix.tune_per_arm, values, strict=True)))


def tuning_matrix(matrix: Matrix) -> Matrix:
    """The matrix whose arms are the candidates, each run to its end; ``matrix`` must be settled for a profile.

    UserError as ``expand``.
    """
    arms = expand(matrix)
    settings = {arm.name: arm.settings for arm in arms}
    found = list(candidates(matrix, arms))
    return matrix.changed(
        {
            "name": f"{matrix.name}-tuning",
            "title": f"Tuning of each arm for: {matrix.heading}",
            "arms": {one.name: {**settings[one.arm], **one.values} for one in found},
            "needs_graph": [one.name for one in found if one.arm in matrix.needs_graph],
            "kind": "search",
            "scheduler": "none",
            "baseline": None,
            "labels": None,
            "note": "",
            **dict.fromkeys(("grid", "zip", "claims"), ()),
            **{name: {} for name in ("tune_per_arm", "aliases", "published")},
        }
    )


def choose_values(matrix: Matrix, arms: Sequence[Arm], results: Mapping[str, CellResult]) -> Tuned:
    """The choice for the arms of a settled matrix, from the cells of the candidates by name, as far as they have run.

    Pure: the same records make the same choice.
    """
    tried: dict[str, list[Tried]] = {arm.name: [] for arm in arms}
    for one in candidates(matrix, arms):
        cell = results[one.name]
        value = cell.value(matrix.objective) if cell.status == "done" else None
        tried[one.arm].append(Tried(one.values, cell.cell_hash, cell.status, value))
    return Tuned(matrix.objective, matrix.tune_per_arm, tried)


def _ends(values: Sequence[Any]) -> tuple[Any, ...]:
    """The least and the greatest of several numbers; nothing for values without an order."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return (min(numbers), max(numbers)) if 1 < len(numbers) == len(values) else ()


def _listed(values: Sequence[Any]) -> str:
    return f"[{', '.join(map(spell_value, values))}]"
