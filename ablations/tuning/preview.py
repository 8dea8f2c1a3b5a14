"""Before a campaign runs: every stage checked as far as it is known, and what it would do in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ablations.plan import Plan
from ablations.run import Finished
from ablations.summary import print_plan
from ablations.tuning.advanced import winner_plan
from ablations.tuning.campaign import Campaign, Settings, Winner, stage_arms
from ablations.tuning.choices import arms_plan, grid_drafts, search_plan
from ablations.tuning.decision import not_meant
from ablations.tuning.ledger import Ledger
from ablations.tuning.log import JsonLines
from ablations.tuning.outcome import Running
from ablations.tuning.run import LEDGER
from ablations.tuning.search import Choice, TpeSearch, label, require_optuna
from ablations.tuning.stages import (
    ArmsStage,
    DatasetsStage,
    DistillationStage,
    EnsembleStage,
    Gate,
    PostprocessingStage,
    SearchStage,
    Stage,
)
from altformer.data.datasets import SIMULATED, SPECS
from altformer.errors import unknown_name

_NO_TEACHER = "0" * 16


def check_stages(campaign: Campaign) -> None:
    """UserError for a mistake in any stage, as far as it shows on the base experiment, before the first cell runs."""
    for name, stage in campaign.tuning.stages.items():
        if drafts := _drafts(stage):
            stage_arms(campaign, name, Winner(), drafts)
        if isinstance(stage, SearchStage) and stage.sampler == "tpe":
            require_optuna()
        if isinstance(stage, DatasetsStage) and stage.datasets != "at-hand":
            for dataset in stage.datasets:
                if dataset not in (*SPECS, SIMULATED):
                    where = campaign.tuning.where("stages", name, "datasets")
                    raise unknown_name("data set", dataset, [*SPECS, SIMULATED], where)


def print_preview(campaign: Campaign, slots: int) -> None:
    """The stages with what each tries and where each leads, then the cells of the first."""
    tuning = campaign.tuning
    print(f"{tuning.title or tuning.name} on {campaign.data.name}, profile {campaign.profile}; by {tuning.objective}")
    for number, (name, stage) in enumerate(tuning.stages.items(), 1):
        print(f"{number}. {name}: {stage.title or name}, from the {stage.start}: {_tries(campaign, name, stage)}")
        for line in _ways(campaign, name, stage):
            print(f"     {line}")
    print()
    print_plan(_first_plan(campaign), slots)
    print(f"The campaign's folder: {campaign.folder}")


def _drafts(stage: Stage) -> dict[str, Settings]:
    if isinstance(stage, ArmsStage):
        return stage.arms
    if isinstance(stage, SearchStage):
        example = {field: one.values[0] if isinstance(one, Choice) else one.low for field, one in stage.space.items()}
        return grid_drafts(stage) | ({label(example, list(example)): example} if example else {})
    if isinstance(stage, DistillationStage):
        distillation = {"teacher": _NO_TEACHER, "weight": stage.weights[0]}
        return {"student": stage.student, "distilled": {**stage.student, "distillation": distillation}}
    return {}


def _tries(campaign: Campaign, name: str, stage: Stage) -> str:
    seeds = campaign.seeds_of(name)
    each = f"{seeds} seed{'s' * (seeds > 1)}"
    if isinstance(stage, ArmsStage):
        epochs = "" if stage.epochs is None else f", {stage.epochs} epochs"
        return f"{', '.join(stage.arms)} ({each}{epochs})"
    if isinstance(stage, SearchStage):
        how = f"{len(grid_drafts(stage))} arms, grid over {' x '.join(stage.grid)}"
        if stage.sampler == "tpe":
            how = f"{stage.rounds} rounds of {stage.round_size}, TPE over {' x '.join(stage.space)}"
        return f"{how} ({each}, scheduler {stage.scheduler.type})"
    if isinstance(stage, EnsembleStage):
        return f"averages of {', '.join(map(str, stage.sizes))} seeds"
    if isinstance(stage, DistillationStage):
        return f"a student alone and taught with weight {', '.join(f'{weight:g}' for weight in stage.weights)} ({each})"
    if isinstance(stage, PostprocessingStage):
        return ", ".join(stage.methods)
    assert isinstance(stage, DatasetsStage)
    return f"{stage.datasets if isinstance(stage.datasets, str) else ', '.join(stage.datasets)} ({each})"


def _ways(campaign: Campaign, name: str, stage: Stage) -> Iterator[str]:
    gate = stage.gate if isinstance(stage, ArmsStage) else None
    if gate is None:
        yield f"then {campaign.tuning.following(name)}"
        return
    metric = campaign.tuning.objective
    yield f"gate on the best arm's {metric}: < {gate.below.value:g} -> {gate.below.then}"
    yield f"  > {gate.above.value:g} or no value -> {gate.above.then}"
    yield f"  between, both thresholds included -> {gate.between}"
    if why := _not_meant(campaign, gate):
        yield f"  here -> {gate.otherwise or gate.between} in any case ({why})"


def _not_meant(campaign: Campaign, gate: Gate) -> str:
    layer: dict[str, Any] = {**campaign.tuning.settings, **campaign.settings}
    loss = str(layer.get("loss", layer.get("training.loss", "masked_mae")))
    return not_meant(gate, campaign.tuning.objective, campaign.profile, campaign.data.name, loss)


def _first_plan(campaign: Campaign) -> Plan:
    running = Running(campaign, _never, Ledger(JsonLines(campaign.folder / LEDGER)))
    name, stage = next(iter(campaign.tuning.stages.items()))
    if isinstance(stage, ArmsStage):
        return arms_plan(running, name, stage)[1]
    if isinstance(stage, SearchStage):
        drafts: dict[str, Settings] = grid_drafts(stage)
        if stage.sampler == "tpe":
            proposals = TpeSearch(stage.space, stage.seed).ask(stage.round_size)
            drafts = dict(stage.arms) | {label(one.settings, list(one.settings)): one.settings for one in proposals}
        return search_plan(running, name, stage, drafts)[1]
    return winner_plan(running, name, campaign.seeds_of(name))


def _never(plan: Plan) -> Finished:
    raise AssertionError(f"a preview runs nothing: {plan.folder}")
