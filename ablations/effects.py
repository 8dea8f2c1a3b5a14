"""Main effects and interaction of a grid of two fields, from the same per-seed pairing as the report's comparisons.

Per seed, a level's main effect is its difference to the baseline's level, averaged over the levels of the other
factor; an interaction contrast is the difference of differences (y_ab - y_0b) - (y_a0 - y_00), Cox (1958). Over seeds
each is one sample with a t interval; for two levels each, t squared of the contrast is the F of the interaction in a
repeated-measures analysis of variance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.arms import Arm
from ablations.cells import CellResult, by_seed
from ablations.looks import alpha_of
from ablations.matrix import Matrix
from ablations.statistics import Comparison, compare_all
from experiments.fields import leaf

Levels = tuple[Any, Any]
BySeed = dict[int, float]


@dataclass(frozen=True)
class Effect:
    """One main effect or interaction contrast; below zero means a lower error."""

    kind: str  # "main effect of <field>" or "interaction"
    name: str
    found: Comparison

    @property
    def verdict(self) -> str:
        """In words; an interaction is neither better nor worse."""
        if self.kind != "interaction":
            return self.found.verdict
        return {"better": "interaction", "worse": "interaction", "no difference shown": "no interaction shown"}.get(
            self.found.verdict, self.found.verdict
        )


def two_factors(matrix: Matrix) -> tuple[str, str] | None:
    """The two fields of a matrix that is exactly one grid of two fields with a baseline, else None."""
    if len(matrix.grid) != 1 or len(matrix.grid[0]) != 2 or matrix.zip or matrix.arms or matrix.baseline is None:
        return None
    first, second = matrix.grid[0]
    return first, second


def two_factor_effects(
    matrix: Matrix, arms: Sequence[Arm], cells: Mapping[str, Sequence[CellResult]], column: str
) -> tuple[Effect, ...]:
    """Every main effect, then every interaction contrast, with Holm's correction over all of them.

    None where the matrix is no grid of two fields, or where arms of the grid are left out (they need a road graph).
    ``cells`` by arm; only seeds count that are done in all arms.
    """
    factors = two_factors(matrix)
    if factors is None or len(arms) < math.prod(map(len, matrix.grid[0].values())):
        return ()
    values = {_levels(arm, factors): by_seed(cells[arm.name], column) for arm in arms}
    seeds = sorted(set.intersection(*(set(own) for own in values.values())))
    base = next(_levels(arm, factors) for arm in arms if arm.is_baseline)
    table = {levels: {seed: own[seed] for seed in seeds} for levels, own in values.items()}
    contrasts = {
        (kind, name): own for kind, name, own in (*_main(table, base, factors), *_interactions(table, base, factors))
    }
    zero = dict.fromkeys(seeds, 0.0)
    named = {str(index): own for index, own in enumerate(contrasts.values())}
    found = compare_all(zero, named, alpha_of(matrix), matrix.margin)
    return tuple(Effect(*key, found[str(index)]) for index, key in enumerate(contrasts))


def _levels(arm: Arm, factors: tuple[str, str]) -> Levels:
    first, second = (_text(arm.settings[factor]) for factor in factors)
    return first, second


def _main(table: Mapping[Levels, BySeed], base: Levels, factors: tuple[str, str]) -> Iterator[tuple[str, str, BySeed]]:
    for place, factor in enumerate(factors):
        others = _unique(levels[1 - place] for levels in table)
        for level in _unique(levels[place] for levels in table):
            if level == base[place]:
                continue
            pairs = [
                ((level, other), (base[0], other)) if place == 0 else ((other, level), (other, base[1]))
                for other in others
            ]
            seeds = next(iter(table.values()))
            own = {seed: sum(table[one][seed] - table[two][seed] for one, two in pairs) / len(pairs) for seed in seeds}
            yield f"main effect of {leaf(factor)}", f"{level} against {base[place]}", own


def _interactions(
    table: Mapping[Levels, BySeed], base: Levels, factors: tuple[str, str]
) -> Iterator[tuple[str, str, BySeed]]:
    first, second = (
        [level for level in _unique(levels[place] for levels in table) if level != base[place]] for place in (0, 1)
    )
    for a, b in itertools.product(first, second):
        own = {
            seed: (table[a, b][seed] - table[base[0], b][seed]) - (table[a, base[1]][seed] - base_value)
            for seed, base_value in table[base].items()
        }
        yield "interaction", f"{leaf(factors[0])} {a} with {leaf(factors[1])} {b}", own


def _unique(levels: Iterator[Any]) -> list[Any]:
    return list(dict.fromkeys(levels))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
