"""How far a campaign's winner has come towards the goals of its plan, on validation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ablations.cells import MISSING
from ablations.plan import PlannedCell
from ablations.reports.numbers import number
from ablations.tuning.campaign import Campaign
from ablations.tuning.decision import not_meant
from ablations.tuning.outcome import Running, StageOutcome, Table
from ablations.tuning.plan import PARTS, Goal, Part
from ablations.tuning.stages import EnsembleStage, PostprocessingStage
from ablations.tuning.winner_stages import winner_plan

Measured = tuple[str, float | None, int]  # what, its value, of how many seeds

HEADER = ("goal", "measured on", "seeds", "value", "conservative", "aggressive")
NOTE = (
    "Validation, by the objective of this campaign; a mean over the winner's seeds that are done. The final number is "
    "the least of several that were compared on the same validation part, which flatters it a little."
)


def goals_table(running: Running, outcomes: Sequence[StageOutcome]) -> Table | None:
    """The plan's goals beside what was measured, and whether each is reached; None for a plan without goals.

    Where the guide's numbers do not apply (see ``not_meant``) a measured value stands there without a verdict.
    """
    goals = running.campaign.tuning.goals
    if goals is None:
        return None
    plan = winner_plan(running, outcomes[-1].stage, _most_seeds(running.campaign))
    marker = not_meant(running.campaign.kind(plan.cells[0].cell.config.training), goals.dataset, goals.epochs)
    measured = _measured(plan.cells, running.campaign.tuning.objective, running, outcomes)
    rows = [_row(part, goal, measured[part], marker) for part in PARTS if (goal := goals.of(part))]
    return Table(HEADER, tuple(rows), note=f"Not judged here: {marker}. {NOTE}" if marker else NOTE)


def goal_sentences(found: Table | None) -> list[str]:
    """Each goal in a line, for the terminal."""
    if found is None:
        return []
    lines = [
        f"Goal {name}: {value} ({what}); conservative {conservative}, aggressive {aggressive}"
        for name, what, _, value, conservative, aggressive in found.rows
    ]
    return [*lines, *([found.note.removesuffix(f" {NOTE}")] if found.note != NOTE else [])]


def _measured(
    cells: Sequence[PlannedCell], metric: str, running: Running, outcomes: Sequence[StageOutcome]
) -> Mapping[Part, Measured]:
    done = [at for at in cells if at.record and at.record["status"] == "done"]
    first = [at.result.at_epoch(metric, 1) for at in done]
    best = [at.result.value(metric) for at in done]
    return {
        "initial": ("the winner after epoch 1", *_mean(first)),
        "converged": ("the winner at its best epoch", *_mean(best)),
        "final": _final(running, outcomes),
    }


def _final(running: Running, outcomes: Sequence[StageOutcome]) -> Measured:
    """The least of what ensembles and corrections came to; nothing where no such stage has been run."""
    stages = running.campaign.tuning.stages
    found = [
        (one.decision.value, f"{one.stage}: {one.decision.winner}")
        for one in outcomes
        if one.decision and one.decision.value is not None
        if isinstance(stages[one.stage], EnsembleStage | PostprocessingStage)
    ]
    if not found:
        return "no ensemble or correction yet", None, 0
    value, what = min(found)
    return what, value, 1


def _row(part: Part, goal: Goal, measured: Measured, marker: str) -> tuple[str, ...]:
    what, value, seeds = measured
    verdicts = (_verdict(value, limit, marker) for limit in (goal.conservative, goal.aggressive))
    return (part, what, str(seeds) if value is not None else MISSING, number(value, 4), *verdicts)


def _verdict(value: float | None, limit: float, marker: str) -> str:
    if value is None:
        return f"< {limit:g}: not measured"
    if marker:
        return f"< {limit:g}: not judged"
    return f"< {limit:g}: {'reached' if value < limit else 'missed'}"


def _mean(values: Iterable[float | None]) -> tuple[float | None, int]:
    numbers = [float(value) for value in values if value is not None and math.isfinite(value)]
    return (sum(numbers) / len(numbers), len(numbers)) if numbers else (None, 0)


def _most_seeds(campaign: Campaign) -> int:
    """As many seeds as any stage may have trained the winner with."""
    stages = campaign.tuning.stages
    sizes = [max(stage.sizes) for stage in stages.values() if isinstance(stage, EnsembleStage)]
    return max(*(campaign.seeds_of(name) for name in stages), *sizes, 1)
