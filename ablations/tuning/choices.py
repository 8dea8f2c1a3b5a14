"""The stages that choose a configuration: arms that are all trained to their end, and searches."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial

from ablations.cells import MISSING
from ablations.plan import Plan
from ablations.reports.numbers import number
from ablations.running import Finished
from ablations.tuning.campaign import (
    Campaign,
    Settings,
    StageArms,
    Winner,
    field_names,
    stage_arms,
    stage_plan,
    validation,
)
from ablations.tuning.decision import Decision, best_of, not_meant, thresholds, through_gate
from ablations.tuning.outcome import REPORT, Running, StageOutcome, Table
from ablations.tuning.search import Result, TpeSearch, label
from ablations.tuning.stages import ArmsStage, Gate, SearchStage, Stage

STARTUP = 10  # proposals of TPE that are random, unless that were more than half


def run_arms(running: Running, name: str, stage: ArmsStage) -> StageOutcome:
    """Train every arm and take the best on validation."""
    arms, plan = arms_plan(running, name, stage)
    finished = running.run(name, plan)
    return unfinished(name, finished) or choose(running, name, stage, finished.plan, arms)


def arms_plan(running: Running, name: str, stage: ArmsStage) -> tuple[StageArms, Plan]:
    """The arms of a stage and their cells."""
    arms = stage_arms(running.campaign, name, running.start_of(stage), stage.arms)
    baseline = stage.baseline or next(iter(stage.arms))
    return arms, stage_plan(running.campaign, name, arms, baseline=baseline, epochs=stage.epochs)


def run_search(running: Running, name: str, stage: SearchStage) -> StageOutcome:
    """Search by grid or by TPE and take the best on validation; what was stopped early cannot win."""
    if stage.sampler == "tpe":
        return _run_rounds(running, name, stage)
    arms, plan = search_plan(running, name, stage, grid_drafts(stage))
    finished = running.run(name, plan)
    return unfinished(name, finished) or choose(running, name, stage, finished.plan, arms)


def grid_drafts(stage: SearchStage) -> dict[str, Settings]:
    """The stage's own arms, then every combination of its grid."""
    combined = (dict(zip(stage.grid, values, strict=True)) for values in itertools.product(*stage.grid.values()))
    return {**stage.arms, **{label(settings): settings for settings in combined}}


def search_plan(
    running: Running, name: str, stage: SearchStage, drafts: Mapping[str, Settings]
) -> tuple[StageArms, Plan]:
    """The arms of a search and their cells, stopped early as the stage says."""
    arms = stage_arms(running.campaign, name, running.start_of(stage), drafts)
    return arms, stage_plan(running.campaign, name, arms, scheduler=stage.scheduler.model_dump())


def _run_rounds(running: Running, name: str, stage: SearchStage) -> StageOutcome:
    """TPE in rounds, all in one growing matrix: ask, train, tell.

    What was told is logged and told again, so a campaign that is started again asks for the same settings and trains
    only what is left.
    """
    search = tpe_search(stage)
    drafts: dict[str, Settings] = dict(stage.arms)
    for turn in range(1, stage.rounds + 1):
        proposals = search.ask(stage.round_size)
        drafts |= {label(proposal.settings): proposal.settings for proposal in proposals}
        arms, plan = search_plan(running, name, stage, drafts)
        last = turn == stage.rounds
        if plan.to_run or last:  # the last time also where nothing is to run: to report
            print(f"{name}: round {turn} of {stage.rounds}", flush=True)
            finished = running.run(name, plan)
            plan = finished.plan
            if left := unfinished(name, finished):
                return left
        for proposal in proposals:
            own = label(proposal.settings)
            arm = arms.twins.get(own, own)
            cells = [at.cell.hash for at in plan.cells if at.arm == arm]
            search.tell(proposal, running.told.result(name, proposal, cells, partial(_result_of, plan, arm)))
    return choose(running, name, stage, plan, arms)


def tpe_search(stage: SearchStage) -> TpeSearch:
    """The search of a stage before its first question."""
    return TpeSearch(stage.space, stage.seed, startup=min(STARTUP, -(-stage.rounds * stage.round_size // 2)))


def _result_of(plan: Plan, arm: str) -> Result:
    """What the seeds of an arm came to: diverged if one did, else stopped if one was, else the mean objective."""
    metric = plan.matrix.objective
    records = [at.record for at in plan.cells if at.arm == arm and at.record]
    if any(record["status"] == "diverged" for record in records):
        return Result("diverged", None, 0)
    epoch = min((int(record["epochs"]) for record in records), default=0)
    if any(record["status"] == "stopped" for record in records):
        last = [record["curve"][-1].get(metric) for record in records if record["curve"]]
        known = [float(value) for value in last if value is not None]
        return Result("stopped", sum(known) / len(known) if known else None, epoch)
    return Result("done", validation(plan)[arm], epoch)


def unfinished(name: str, finished: Finished) -> StageOutcome | None:
    """The end of a stage of which a cell has failed or that a signal ended; None where all cells are settled."""
    if not finished.exit_code:
        return None
    return StageOutcome(name, finished.exit_code, reports=(finished.plan.folder / REPORT,))


def choose(running: Running, name: str, stage: Stage, plan: Plan, arms: StageArms) -> StageOutcome:
    """The best arm on validation, the way on, and both in words."""
    campaign, metric = running.campaign, plan.matrix.objective
    candidates = validation(plan)
    best, value = best_of(candidates)
    gate = stage.gate if isinstance(stage, ArmsStage) else None
    marker = ""
    if gate is None:
        path = campaign.tuning.following(name)
        reason = f"it has the least of {len(candidates)} arms" if best else "no arm has a value, so the start stays"
    else:
        marker = _marker(campaign, gate, plan, best, stage)
        path, reason = through_gate(gate, value, marker)
    made = Decision(
        stage=name,
        metric=metric,
        candidates=candidates,
        winner=best,
        value=value,
        thresholds=thresholds(gate),
        path=path,
        reason=reason,
        marker=marker,
        cells=tuple(at.cell.hash for at in plan.cells),
    )
    decision = running.decisions.standing(made)
    winner = arms.start if decision.winner is None else _winner(arms, decision.winner, plan)
    notes = [f"{arm} is the same configuration as {twin} and was left out." for arm, twin in arms.twins.items()]
    notes += _changed_since(decision, candidates)
    notes.append(f"Winner so far: {winner.arm} ({field_names(winner.settings) or 'nothing changed'}).")
    return StageOutcome(
        name, 0, decision, winner, (arms_table(plan, decision.candidates),), tuple(notes), (plan.folder / REPORT,)
    )


def _winner(arms: StageArms, best: str, plan: Plan) -> Winner:
    """The best arm, called by all the arms it came from."""
    configs = {at.arm: at.cell.config for at in plan.cells}
    name = best if arms.start.config is None else f"{arms.start.arm} + {best}"
    if best in arms.unchanged and arms.start.config is not None:
        name = arms.start.arm
    return Winner(name, arms.arms[best], configs[best])


def _marker(campaign: Campaign, gate: Gate, plan: Plan, best: str | None, stage: Stage) -> str:
    """Why the gate's thresholds do not count for the best arm; they are of as many epochs as the stage asks for."""
    configs = {at.arm: at.cell.config.training for at in plan.cells}
    training = configs[best] if best else next(iter(configs.values()))
    epochs = stage.epochs if isinstance(stage, ArmsStage) else None
    return not_meant(campaign.kind(training), gate.dataset, epochs)


def _changed_since(decision: Decision, candidates: Mapping[str, float | None]) -> list[str]:
    """A note on each arm that has another value by now than it was decided by."""
    return [
        f"{arm} has {number(value, 4)} by now (another stage or matrix has trained it on); it was decided by "
        f"{number(decision.candidates[arm], 4)}, and that decision stands."
        for arm, value in candidates.items()
        if value != decision.candidates[arm]
    ]


def arms_table(plan: Plan, candidates: Mapping[str, float | None]) -> Table:
    """Every arm with its seeds' outcomes and the validation objective it was judged by, the best first."""
    rows = []
    for arm in plan.arms:
        cells = [at.result for at in plan.cells if at.arm == arm.name]
        statuses = sorted({cell.status for cell in cells})
        epochs = [str(cell.record["epochs"]) for cell in cells if cell.record]
        shown = number(candidates[arm.name], 4)
        rows.append(
            (arm.name, f"{plan.params[arm.name]:,}", str(len(cells)), " / ".join(statuses), ", ".join(epochs), shown)
        )
    rows.sort(key=lambda row: (row[-1] == MISSING, candidates[row[0]] or 0.0))
    header = ("arm", "parameters", "seeds", "status", "epochs", plan.matrix.objective)
    return Table(header, tuple(rows), note="Validation; what was stopped or diverged has no number and cannot win.")
