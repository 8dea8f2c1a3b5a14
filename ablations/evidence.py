"""What the claims of a matrix file are judged by, and the words of a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from ablations.arms import Arm, varied_fields
from ablations.cells import CellResult, by_seed
from ablations.looks import alpha_of
from ablations.matrix import Matrix
from ablations.reports.facts import RunInfo
from ablations.statistics import Comparison

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "no difference shown"


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by.

    ``cells`` and ``comparisons`` (with the baseline, after Holm's correction) by arm or alias; ``baselines`` has the
    arm that each is compared with; ``column`` is the metric compared, ``params`` the parameters in the full profile;
    ``twins`` are the arms (and aliases) that each is claimed to equal or is set against in an alias; ``repeat`` is the
    command that would test what this run cannot, without data set and loss, ``varied`` the fields that arms set.
    ``alpha`` is that of one look, ``margin`` how far apart in the metric two arms may be that count as equivalent.
    """

    cells: Mapping[str, Sequence[CellResult]]
    comparisons: Mapping[str, Comparison]
    baselines: Mapping[str, str]
    arms: Sequence[str]
    column: str
    profile: str
    params: Mapping[str, int]
    dataset: str
    twins: Mapping[str, Set[str]]
    repeat: str
    varied: Set[str]
    alpha: float
    margin: float

    def values(self, arm: str) -> dict[int, float]:
        """The compared metric of an arm by seed."""
        return by_seed(self.cells[arm], self.column)


def gather(
    matrix: Matrix,
    arms: Sequence[Arm],
    cells: Mapping[str, Sequence[CellResult]],
    comparisons: Mapping[str, Comparison],
    info: RunInfo,
) -> Evidence:
    """The evidence of a matrix from the cells of its arms, and the comparisons of arms and aliases with cells."""
    aliases = matrix.aliases_of(cells)
    against = {name: matrix.baseline for name in cells if matrix.baseline is not None}
    return Evidence(
        cells={**cells, **{alias: cells[row.of] for alias, row in aliases.items()}},
        comparisons=comparisons,
        baselines=against | {alias: row.against for alias, row in aliases.items()},
        arms=list(cells),
        column=matrix.reported,
        profile=info.profile,
        params=info.claimed_params,
        dataset=info.dataset,
        twins=_twins(matrix),
        repeat=f"altformer ablate {shlex.quote(matrix.called)}",
        varied=varied_fields(arms),
        alpha=alpha_of(matrix),
        margin=matrix.margin,
    )


def _twins(matrix: Matrix) -> dict[str, set[str]]:
    """For each arm or alias those that it is claimed to equal, and those that an alias sets it against."""
    pairs = [(claim.arm, claim.equal_to) for claim in matrix.claims if claim.equal_to is not None]
    for alias, row in matrix.aliases.items():
        pairs += [(alias, row.of), (alias, row.against), (row.of, row.against)]
    twins: dict[str, set[str]] = {}
    for one, two in pairs:
        twins.setdefault(one, set()).add(two)
        twins.setdefault(two, set()).add(one)
    return twins


def untestable(reason: str) -> str:
    """The verdict where a run cannot decide, and why."""
    return f"not testable here ({reason})"
