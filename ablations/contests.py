"""How comparisons are stopped early: each matrix as a contest of its arms with its baseline (see cluster.futility)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ablations.early_stopping import Asha, Futility
from ablations.plan import Plan, PlannedCell
from altformer.training.checkpoint import last_curve
from cluster.futility import MIN_SEEDS, Contest, History
from cluster.scheduler import AshaScheduler, FutilityScheduler, NoScheduler, Scheduler


def scheduler_of(plan: Plan) -> Scheduler:
    """What stops the plan's cells: its matrix's rule, or those of the matrices that it joins."""
    rule = plan.matrix.scheduler
    if isinstance(rule, Asha):
        return AshaScheduler(
            max_epochs=max(at.cell.config.training.epochs for at in plan.cells),
            grace_period=rule.grace_period.of(plan.profile),
            reduction_factor=rule.reduction_factor,
        )
    contests = tuple(filter(None, map(contest_of, plan.parts)))
    if not contests:
        return NoScheduler()
    to_the_end = [one for one in plan.parts if contest_of(one) is None]
    folders = {at.cell.hash: at.cell.folder for at in plan.cells}
    return FutilityScheduler(
        contests,
        {at.cell.hash: found for at in plan.cells if (found := _history(plan, at))},
        frozenset(at.cell.hash for one in to_the_end for at in one.cells),
        lambda key: _values(plan, last_curve(folders[key])),
    )


def contest_of(plan: Plan) -> Contest | None:
    """The plan's arms against its baseline, rungs in epochs; None where its rule never stops a cell."""
    rule, cells = plan.matrix.scheduler, _by_arm(plan)
    baseline = cells.pop(plan.matrix.baseline or "", None)
    if not isinstance(rule, Futility) or baseline is None or len(baseline) < MIN_SEEDS:
        return None
    epochs = next(at.cell.config.training.epochs for at in plan.cells if at.arm == plan.matrix.baseline)
    rungs = rule.rungs_of(epochs)
    return Contest(baseline, cells, rungs, rule.margin, rule.alpha) if rungs else None


def rule_of(plan: Plan, at: PlannedCell) -> dict[str, Any]:
    """The scheduler as it is noted in a cell's record should it stop it: those of all matrices that have it as one."""
    own = plan.rules_of(at)
    against = [name for rule in own for name in rule.get("against", ())]
    return {**own[0], "against": against} if against else own[0]


def baselines_first(plan: Plan, cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """The cells in the order to run them: whoever is waited for first, else as they are."""
    first = {key for one in plan.parts if (contest := contest_of(one)) for key in contest.baseline.values()}
    return sorted(cells, key=lambda at: at.cell.hash not in first)


def _by_arm(plan: Plan) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for at in plan.cells:
        found.setdefault(at.arm, {})[at.seed] = at.cell.hash
    return found


def _history(plan: Plan, at: PlannedCell) -> History | None:
    """The curve of a settled cell, or of the checkpoint that another one resumes from."""
    curve: Sequence[Mapping[str, Any]]
    if at.record is not None and plan.settled(at):
        curve, status = at.record["curve"], str(at.record["status"])
    else:
        curve, status = last_curve(at.cell.folder), None
    values = _values(plan, curve)
    return History(values, status) if values or status else None


def _values(plan: Plan, curve: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(epoch.get(plan.matrix.objective, math.nan)) for epoch in curve]
