"""Before a campaign runs: every stage checked as far as it is known, and what it would do in words."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.plan import Plan
from ablations.running import Finished
from ablations.terminal import print_plan
from ablations.tuning.campaign import Campaign, Settings, Winner, stage_arms
from ablations.tuning.choices import arms_plan, grid_drafts, search_plan, tpe_search
from ablations.tuning.decision import not_meant
from ablations.tuning.outcome import Running
from ablations.tuning.plan import END
from ablations.tuning.search import Choice, label, require_optuna
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
from ablations.tuning.winner_stages import chosen_datasets, winner_plan
from altformer.data.datasets import data_dir, ways_out
from altformer.data.specs import SIMULATED, SPECS
from altformer.errors import UserError, unknown_name
from experiments.compose import compose
from experiments.dataset_choice import at_hand

_NO_TEACHER = "0" * 16


def check_stages(campaign: Campaign) -> None:
    """UserError for a mistake in any stage, as far as it shows on the base experiment, before the first cell runs."""
    from_base = Running.of(campaign, _never)
    for name, stage in campaign.tuning.stages.items():
        if isinstance(stage, SearchStage):
            if stage.sampler == "tpe":
                require_optuna()
            search_plan(from_base, name, stage, _drafts(stage))
        elif isinstance(stage, ArmsStage):
            arms_plan(from_base, name, stage)
        elif drafts := _drafts(stage):
            stage_arms(campaign, name, Winner(), drafts)
        if isinstance(stage, DatasetsStage):
            _check_datasets(campaign, name, stage)


def print_preview(campaign: Campaign, slots: int) -> None:
    """The stages with what each tries, how many cells that is and where each leads, then the cells of the first."""
    tuning = campaign.tuning
    print(f"{tuning.title or tuning.name} on {campaign.data.name}, profile {campaign.profile}; by {tuning.objective}")
    for number, (name, stage) in enumerate(tuning.stages.items(), 1):
        cells = _most_cells(campaign, name, stage)
        tries = f"{_tries(campaign, name, stage)}; {cells} cell{'s' * (cells > 1)}"
        print(f"{number}. {name}: {stage.title or name}, from the {stage.start}: {tries}")
        for line in _ways(campaign, name, stage):
            print(f"     {line}")
    print()
    for way in _whole_ways(campaign, next(iter(tuning.stages))):
        total = sum(_most_cells(campaign, name, tuning.stages[name]) for name in way)
        print(f"At most {total} cells by {' -> '.join(way)}")
    print("Fewer where stages share a cell, which is trained once, or where an arm is what the winner has already.\n")
    print_plan(_first_plan(campaign), slots)
    print(f"The campaign's folder: {campaign.folder}")


def _check_datasets(campaign: Campaign, name: str, stage: DatasetsStage) -> None:
    """UserError for a named data set that is unknown or not at hand; the campaign's own is loaded already."""
    if stage.datasets == "at-hand":
        return
    where, folder = campaign.tuning.where("stages", name, "datasets"), data_dir()
    here = {*at_hand(folder), SIMULATED, campaign.data.name}
    for dataset in stage.datasets:
        if dataset not in (*SPECS, SIMULATED):
            raise unknown_name("data set", dataset, [*SPECS, SIMULATED], where)
        if dataset not in here:
            raise UserError(f"{where}: {dataset} is not in {folder}.\n{ways_out(dataset, folder)}")


def _drafts(stage: Stage) -> dict[str, Settings]:
    """What a stage tries of fields; of a search by TPE its arms, its grid and one point of its space."""
    if isinstance(stage, ArmsStage):
        return stage.arms
    if isinstance(stage, SearchStage):
        example = {field: one.values[0] if isinstance(one, Choice) else one.low for field, one in stage.space.items()}
        return grid_drafts(stage) | ({label(example): example} if example else {})
    if isinstance(stage, DistillationStage):
        distillation = {"teacher": _NO_TEACHER, "weight": stage.weights[0]}
        return {"student": stage.student, "distilled": {**stage.student, "distillation": distillation}}
    return {"winner": stage.settings} if isinstance(stage, DatasetsStage) else {}


def _most_cells(campaign: Campaign, name: str, stage: Stage) -> int:
    """How many cells a stage has at most; corrections and averages are made of the winner's."""
    seeds = campaign.seeds_of(name)
    if isinstance(stage, ArmsStage):
        return len(stage.arms) * seeds
    if isinstance(stage, SearchStage):
        tpe = stage.sampler == "tpe"
        return seeds * (len(stage.arms) + stage.rounds * stage.round_size if tpe else len(grid_drafts(stage)))
    if isinstance(stage, EnsembleStage):
        return max(stage.sizes)
    if isinstance(stage, DistillationStage):
        return 1 + (1 + len(stage.weights)) * seeds  # with the teacher
    return len(chosen_datasets(campaign, stage)) * seeds if isinstance(stage, DatasetsStage) else 1


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
    if why := _not_meant(campaign, gate, stage):
        yield f"  here -> {gate.otherwise or gate.between} in any case ({why})"


def _whole_ways(campaign: Campaign, name: str) -> Iterator[list[str]]:
    """Every way from a stage to the end of the plan."""
    if name == END:
        yield []
        return
    stage = campaign.tuning.stages[name]
    gate = stage.gate if isinstance(stage, ArmsStage) else None
    if gate is None:
        following = [campaign.tuning.following(name)]
    elif _not_meant(campaign, gate, stage):
        following = [gate.otherwise or gate.between]
    else:
        following = list(dict.fromkeys([gate.below.then, gate.between, gate.above.then]))
    for after in following:
        for rest in _whole_ways(campaign, after):
            yield [name, *rest]


def _not_meant(campaign: Campaign, gate: Gate, stage: Stage) -> str:
    """Why the gate's thresholds do not count, as far as the base experiment shows."""
    tuning, epochs = campaign.tuning, stage.epochs if isinstance(stage, ArmsStage) else None
    layer = tuning.settings_over({**({} if epochs is None else {"epochs": epochs}), **campaign.settings})
    config = compose(tuning.base_file, dataset=campaign.dataset, profile=campaign.profile, settings=layer)
    return not_meant(campaign.kind(config.training), gate.dataset, epochs)


def _first_plan(campaign: Campaign) -> Plan:
    running = Running.of(campaign, _never)
    name, stage = next(iter(campaign.tuning.stages.items()))
    if isinstance(stage, ArmsStage):
        return arms_plan(running, name, stage)[1]
    if isinstance(stage, SearchStage):
        drafts: dict[str, Settings] = grid_drafts(stage)
        if stage.sampler == "tpe":
            proposals = tpe_search(stage).ask(stage.round_size)
            drafts = dict(stage.arms) | {label(one.settings): one.settings for one in proposals}
        return search_plan(running, name, stage, drafts)[1]
    return winner_plan(running, name, campaign.seeds_of(name))


def _never(plan: Plan) -> Finished:
    raise AssertionError(f"a preview runs nothing: {plan.folder}")
