"""Several matrices on one data set as one plan, in which a cell that appears in several of them is trained once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ablations.arms import Arm
from ablations.early_stopping import Asha, NoScheduler
from ablations.folders import short_id
from ablations.matrix import Matrix
from ablations.plan import Plan, PlannedCell
from cluster.retries import Retries


def joins(plan: Plan, first: Plan) -> bool:
    """Whether a plan can run in one with another: a comparison by the same objective, with the same resources."""
    same = (plan.matrix.resources, plan.matrix.objective) == (first.matrix.resources, first.matrix.objective)
    return not isinstance(plan.matrix.scheduler, Asha) and same


def make_union(name: str, plans: Sequence[Plan], out: Path) -> Plan | None:
    """The plan of the distinct cells of all plans that can run together, whole seeds first; None where none can.

    Its arms are named ``matrix/arm`` after the first matrix that has the cell, and it has no baseline: comparing is
    left to the reports of the matrices. The plans must be on the same data and profile.
    """
    together = [plan for plan in plans if not isinstance(plan.matrix.scheduler, Asha)]
    together = [plan for plan in together if joins(plan, together[0])]
    if not together:
        return None
    cells: dict[str, PlannedCell] = {}
    params: dict[str, int] = {}
    for plan, at in sorted(_all_cells(together), key=lambda pair: pair[1].seed):
        arm = f"{plan.matrix.name}/{at.arm}"
        if at.cell.hash not in cells:
            cells[at.cell.hash] = PlannedCell(arm, at.seed, at.cell, at.record)
            params[arm] = plan.params[at.arm]
    first = together[0]
    matrix = Matrix(
        name=name,
        title="All matrices" if name == "all" else "Several matrices",
        base=first.matrix.base,
        arms={arm: {} for arm in params},
        kind="search",
        scheduler=NoScheduler(),
        objective=first.matrix.objective,
        resources=first.matrix.resources,
        retries=_retries(together),
    )
    return Plan(
        matrix=matrix,
        arms=[Arm(arm, {}, is_baseline=False, where=matrix.where()) for arm in params],
        cells=list(cells.values()),
        data=first.data,
        profile=first.profile,
        folder=_folder(name, together, out),
        params=params,
        scheduler={"type": "none", "profile": first.profile, "metric": matrix.objective},
        members=tuple(plan.folder.name for plan in plans),
        joined=tuple(together),
    )


def sharing(plans: Sequence[Plan]) -> dict[str, list[str]]:
    """Every cell by its hash with the ``matrix/arm`` names it has, in order, each once."""
    names: dict[str, dict[str, None]] = {}
    for plan, at in _all_cells(plans):
        names.setdefault(at.cell.hash, {})[f"{plan.matrix.name}/{at.arm}"] = None
    return {key: list(found) for key, found in names.items()}


def shared_cells(plans: Sequence[Plan]) -> Mapping[str, list[str]]:
    """The cells that more than one matrix has."""
    return {key: names for key, names in sharing(plans).items() if len(names) > 1}


def _all_cells(plans: Sequence[Plan]) -> list[tuple[Plan, PlannedCell]]:
    return [(plan, at) for plan in plans for at in plan.cells]


def _retries(plans: Sequence[Plan]) -> Retries:
    """As many as any of the matrices allows."""
    own = [plan.matrix.retries for plan in plans]
    return Retries(per_cell=max(one.per_cell for one in own), per_matrix=max(one.per_matrix for one in own))


def _folder(name: str, plans: Sequence[Plan], out: Path) -> Path:
    """A folder for these very matrices: theirs are named after all that distinguishes them but the seeds."""
    short = short_id(sorted(plan.folder.name for plan in plans))
    return out.resolve() / f"{name}-{plans[0].data.name}-{short}"
