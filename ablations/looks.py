"""Looking at a comparison more than once: what each look may claim, and how seeds are added to undecided arms."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ablations.cells import CellResult
from ablations.matrix import Matrix
from ablations.power import ALPHA, MIN_SEEDS
from ablations.statistics import Comparison

UNDECIDED = ("no difference shown", "not enough seeds")


@dataclass(frozen=True)
class Looks:
    """The looks at a comparison so far and those that the matrix plans.

    ``seeds`` is the number of seeds at each look, this one last. ``alpha`` holds at every look: 0.05 over the planned
    ones (Bonferroni), so that all of them together claim a difference that is none with at most 5 %. ``undecided`` are
    the arms that more seeds could decide, ``command`` adds them up to ``next_seeds``; empty where there are none.
    ``missing`` cells have no result yet, so that this report does not count as a look.
    """

    seeds: tuple[int, ...]
    planned: int
    alpha: float
    undecided: tuple[str, ...]
    next_seeds: int
    command: str
    missing: int = 0

    @property
    def unplanned(self) -> bool:
        """Whether this look is beyond the planned ones, so that alpha does not hold over all of them."""
        return len(self.seeds) > self.planned

    @property
    def caution(self) -> str:
        """What a reader of the verdicts alone must know of an unplanned look; empty for a planned one."""
        if not self.unplanned:
            return ""
        return (
            f"Look {len(self.seeds)} at these results, where {self.planned} {_planned(self.planned)}: a difference "
            f"that is none is claimed more often than at alpha {ALPHA:g}; confirm it with fresh seeds."
        )

    @property
    def text(self) -> str:
        """Which look this is, and what its alpha means."""
        if not self.missing:
            return self._which
        cells = "1 cell has" if self.missing == 1 else f"{self.missing} cells have"
        return (
            f"{self._which} But {cells} no result yet: this report is provisional and not counted as a look, so go on "
            "with the same command whatever it says."
        )

    @property
    def _untested(self) -> bool:
        """Whether there are too few seeds for a test, so that the next report is the first look."""
        return not self.seeds and self.next_seeds == MIN_SEEDS

    @property
    def _which(self) -> str:
        if self._untested:
            return f"No look yet: with fewer than {MIN_SEEDS} seeds nothing is tested."
        number = max(len(self.seeds), 1)
        history = f" (seeds at each look: {', '.join(map(str, self.seeds))})" if number > 1 else ""
        if self.unplanned:
            return (
                f"Look {number}, unplanned: {self.planned} {_planned(self.planned)}{history}. Seeds were added after "
                f"results had been seen, so a difference that is none is claimed more often than at alpha {ALPHA:g}: "
                "confirm a finding of this look with fresh seeds, or with looks planned in the matrix beforehand."
            )
        if self.planned == 1:
            return f"First look, and the only planned one: alpha {self.alpha:g}."
        which = "First look" if number == 1 else f"Look {number}"
        return (
            f"{which} of {self.planned} planned{history}: alpha at each is {ALPHA:g} / {self.planned} = "
            f"{self.alpha:.3g}, so that all of them together claim a difference that is none with at most "
            f"{100 * ALPHA:g} %."
        )

    @property
    def next_text(self) -> str:
        """What adding seeds to the undecided arms would be: a planned look, or one that has to be labelled."""
        number = 1 if self._untested else max(len(self.seeds), 1) + 1
        if number <= self.planned:
            return f"More seeds for the undecided arms only, up to {self.next_seeds}: look {number} of {self.planned}."
        return (
            f"More seeds for the undecided arms only, up to {self.next_seeds}: this would be look {number} where "
            f"{self.planned} {_planned(self.planned)}, and the report would label it as unplanned."
        )


def looks_at(
    matrix: Matrix,
    seeds: Sequence[int],
    compared: Mapping[str, Comparison],
    results: Sequence[CellResult],
    command: str,
) -> Looks:
    """The looks at a matrix, ``seeds`` at each; arms in ``compared`` are those that could be compared."""
    undecided = tuple(name for name, found in compared.items() if found.verdict in UNDECIDED and not found.equivalent)
    now = seeds[-1] if seeds else len({result.seed for result in results})
    more = next_seeds(now)
    return Looks(
        tuple(seeds),
        matrix.looks,
        alpha_of(matrix),
        undecided,
        more,
        _command(matrix, command, results, more) if undecided else "",
        sum(result.status in ("not run", "failed") for result in results),
    )


def alpha_of(matrix: Matrix) -> float:
    """Alpha at each of the planned looks (Bonferroni)."""
    return ALPHA / matrix.looks


def next_seeds(now: int) -> int:
    """How many seeds to go to: 3, 5, 10, and twice as many from there."""
    return next((step for step in (MIN_SEEDS, 5) if step > now), 2 * now)


def _command(matrix: Matrix, command: str, results: Sequence[CellResult], seeds: int) -> str:
    """The command that ran the matrix, for this matrix alone and with so many seeds for what is undecided."""
    for given in (command, *_recorded(results)):
        if (options := _options(given)) is not None:
            break
    else:
        options = []
    return shlex.join(["altformer", "ablate", matrix.called, *options, "--seeds", str(seeds), "--undecided"])


def _recorded(results: Sequence[CellResult]) -> list[str]:
    """The commands that trained the cells, the last first."""
    found = [(result.record or {}).get("provenance") or {} for result in results]
    ended = sorted(((str(one.get("ended") or ""), str(one.get("command") or "")) for one in found), reverse=True)
    return [command for _, command in ended]


class _Quiet(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _options(command: str) -> list[str] | None:
    """The options of a call of ``altformer ablate`` but for its matrices and seeds; None for any other command."""
    from ablations.command import add_arguments

    parser = _Quiet(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        words = shlex.split(command)
        if words[:2] != ["altformer", "ablate"]:
            return None
        given, _ = parser.parse_known_args(words[2:])
    except ValueError:
        return None
    return _without(words[2:], given.files)


def _without(words: Sequence[str], files: Sequence[str]) -> list[str]:
    """Words without the matrices, which stand together, and without the options that are given anew."""
    start = next(at for at in range(len(words)) if list(words[at : at + len(files)]) == list(files))
    left = [*words[:start], *words[start + len(files) :]]
    kept: list[str] = []
    value_follows = False
    for word in left:
        name, _, value = word.partition("=")
        seeds = "--seeds".startswith(name) and len(name) > len("--se")  # also cut short, as argparse lets it be
        if not (value_follows or seeds or name in ("--undecided", "--dry-run")):
            kept.append(word)
        value_follows = seeds and not value
    return kept


def _planned(count: int) -> str:
    return "was planned" if count == 1 else "were planned"
