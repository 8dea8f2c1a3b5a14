"""A campaign: a tuning plan with everything that decides its numbers, and how a stage of it becomes a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.arms import Arm, refuse_set_fields, settings_fields, varied_fields
from ablations.folders import short_id
from ablations.matrix import Matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.tuning.decision import Kind
from ablations.tuning.plan import TuningPlan
from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from altformer.training.config import TrainingConfig
from experiments.cell import Machine
from experiments.compose import compose, settings_layer
from experiments.fields import leaf, locate

Settings = dict[str, Any]


@dataclass(frozen=True)
class Winner:
    """The configuration that the next stage starts from.

    The fields (by dotted path) that its stages have varied, over the base experiment, and all of it as it was trained;
    None: the base experiment itself.
    """

    arm: str = "the base experiment"
    settings: Settings = field(default_factory=dict)
    config: Config | None = None


@dataclass(frozen=True)
class Campaign:
    """A tuning plan on one data set. ``seeds`` (None: each stage's own) and ``sampler`` are the command line's."""

    tuning: TuningPlan
    data: TrafficData
    machine: Machine
    dataset: str | None
    profile: str
    settings: Mapping[str, Any]
    seeds: int | None
    out: Path

    @property
    def folder(self) -> Path:
        """``<out>/<name>-<data set>-<hash>``: another plan, data set or setting is another campaign.

        What a plan only says or judges, its titles and goals, is no part of that.
        """
        identity = {
            "tuning": _without_titles(self.tuning.model_dump(mode="json", exclude={"goals"})),
            "data": self.data.identity,
            "profile": self.profile,
            "settings": {name: str(value) for name, value in self.settings.items()},
            "machine": asdict(self.machine),
            "seeds": self.seeds,
        }
        return self.out.resolve() / f"{self.tuning.name}-{self.data.name}-{short_id(identity)}"

    def stage_folder(self, stage: str) -> Path:
        """Where a stage's plan, cells and report go; its own name tells it from every other matrix in MLflow."""
        return self.folder / f"{self.folder.name}-{stage}"

    def kind(self, training: TrainingConfig) -> Kind:
        """What the numbers of a model trained like this are of."""
        return Kind(
            metric=self.tuning.objective,
            profile=self.profile,
            dataset=self.data.name,
            loss=training.loss,
            epochs=training.epochs,
            steps_per_epoch=training.steps_per_epoch,
        )

    def seeds_of(self, stage: str) -> int:
        """How many seeds the arms of a stage are trained with."""
        return self.seeds or self.tuning.stages[stage].seeds.of(self.profile)


@dataclass(frozen=True)
class StageArms:
    """The arms of a stage with every field that any of them sets, and those that turned out to be another's twin."""

    start: Winner
    arms: dict[str, Settings]
    unchanged: frozenset[str]  # arms that are the start as it is
    twins: dict[str, str]  # left out -> the arm that is the same configuration


def stage_arms(campaign: Campaign, stage: str, start: Winner, drafts: Mapping[str, Settings]) -> StageArms:
    """The drafts laid over the start, each spelled out in every field that any of them or the start sets.

    Spelled out, since a profile leaves a field alone only where an arm sets it: so the winner of a stage is the same
    configuration in the next one, whatever either varies. UserError with the place of a draft that is not valid.
    """
    tuning = campaign.tuning
    places = {name: tuning.where("stages", stage, "arms", name) for name in drafts}
    newly = varied_fields(Arm(name, dict(draft), False, places[name]) for name, draft in drafts.items())
    carried = start.settings if start.config is None else {**_spelled_out(start.config, newly), **start.settings}
    arms = []
    for name, draft in drafts.items():
        layer = settings_layer(carried, "winner")
        layer.update(settings_layer(draft, places[name]))
        arms.append(Arm(name, layer.values, False, places[name]))
    refuse_set_fields(arms, campaign.settings)
    varied = varied_fields(arms)
    arms = [_with_peak(campaign, arm, drafts[arm.name], carried, varied) for arm in arms]
    varied = varied_fields(arms)
    found: dict[str, Settings] = {}
    twins: dict[str, str] = {}
    configs: dict[str, Config] = {}
    for arm in arms:
        config = _resolve(campaign, arm, varied)
        if twin := next((name for name, other in configs.items() if other == config), None):
            twins[arm.name] = twin
        else:
            configs[arm.name] = config
            found[arm.name] = _spelled_out(config, varied)
    return StageArms(start, found, frozenset(name for name, draft in drafts.items() if not draft), twins)


def stage_plan(
    campaign: Campaign,
    stage: str,
    arms: StageArms,
    *,
    baseline: str | None = None,
    scheduler: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    objective: str | None = None,
) -> Plan:
    """The matrix of a stage resolved to cells, in the campaign's folder; with a scheduler it is a search."""
    tuning, seeds = campaign.tuning, seeds or campaign.seeds_of(stage)
    title = tuning.stages[stage].title or stage
    matrix = Matrix.model_validate(
        {
            "name": f"{tuning.name}-{stage}",
            "title": f"{tuning.title or tuning.name}: {title}",
            "base": str(tuning.base_file),
            "settings": {**tuning.settings, **({} if epochs is None else {"epochs": epochs})},
            "arms": arms.arms,
            "baseline": None if baseline is None else arms.twins.get(baseline, baseline),
            "kind": "comparison" if baseline is not None else "search",
            "seeds": seeds,
            "objective": objective or tuning.objective,
            "scheduler": {"type": "none"} if scheduler is None else scheduler,
            "resources": tuning.resources,
        }
    )
    matrix.read_from(tuning.file, tuning.lines_of("stages", stage))  # for what make_plan has to refuse
    plan = make_plan(
        matrix,
        campaign.data,
        campaign.machine,
        dataset=campaign.dataset,
        profile=campaign.profile,
        settings=campaign.settings,
        seeds=seeds,
        out=campaign.out,
    )
    return replace(plan, folder=campaign.stage_folder(stage))


def validation(plan: Plan) -> dict[str, float | None]:
    """The mean validation objective of each arm over its seeds; None where a seed is not done (stopped, diverged)."""
    found: dict[str, float | None] = {}
    for arm in plan.arms:
        cells = [at.result for at in plan.cells if at.arm == arm.name]
        values = [cell.value(plan.matrix.objective) if cell.status == "done" else None for cell in cells]
        numbers = [value for value in values if value is not None]
        found[arm.name] = sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None
    return found


def _resolve(campaign: Campaign, arm: Arm, varied: frozenset[str]) -> Config:
    """The configuration of an arm as the matrix will have it (but for the epochs, which are the same in all arms)."""
    tuning = campaign.tuning
    own = settings_fields(Matrix(name=tuning.name, base=tuning.base, settings=tuning.settings))
    try:
        return compose(
            tuning.base_file,
            dataset=campaign.dataset,
            profile=campaign.profile,
            settings=tuning.settings_over(campaign.settings),
            arm=arm.settings,
            varied=varied | own,
        )
    except UserError as error:
        raise UserError(f"{arm.where}: arm '{arm.name}': {error}") from None


def _with_peak(campaign: Campaign, arm: Arm, draft: Settings, carried: Settings, varied: frozenset[str]) -> Arm:
    """An arm that sets the learning rate over a one-cycle schedule, with that as the cycle's peak.

    The schedule's own ``max_lr`` takes the place of ``lr``: without this, a search over ``lr`` from a winner with one
    cycle would train the same model again and again. ``lr`` itself, which such a schedule never reads, stays that of
    the start, so that one peak is one configuration.
    """
    rate = {locate(name): value for name, value in draft.items()}.get("training.lr")
    if rate is None or any(locate(name).startswith("training.scheduler") for name in draft):
        return arm
    without = {name: value for name, value in arm.settings.items() if locate(name) != "training.lr"}
    schedule = _resolve(campaign, replace(arm, settings=without), varied).training.scheduler
    if schedule.type != "OneCycleLR":
        return arm
    kept = {name: value for name, value in carried.items() if locate(name) == "training.lr"}
    peak = {"training.scheduler": schedule.model_dump() | {"max_lr": rate}}
    return replace(arm, settings={**without, **kept, **peak})


def _spelled_out(config: Config, varied: frozenset[str]) -> Settings:
    """The configuration's values of the varied fields, whole where they are mappings with a form of their own."""
    paths = {".".join(path.split(".")[:2]) for path in varied}
    if "model" in varied or paths & {"model.type", "model.class_path", "model.options"}:  # another model, other fields
        paths = {path for path in paths if not path.startswith("model")} | {"model"}
    content = config.model_dump(mode="json")
    values: Settings = {}
    for path in sorted(paths):
        section, _, name = path.partition(".")
        if not name:
            values[path] = content[section]
        elif name in content[section]:  # else it is no field of this model, which the arm that sets it will hear
            values[path] = content[section][name]
    return values


def _without_titles(plan: Settings) -> Settings:
    stages = {name: {key: stage[key] for key in stage if key != "title"} for name, stage in plan["stages"].items()}
    return {**{key: value for key, value in plan.items() if key != "title"}, "stages": stages}


def field_names(settings: Mapping[str, Any]) -> str:
    """Settings in one line, by their short names."""
    return ", ".join(f"{leaf(locate(path))}={_short(value)}" for path, value in settings.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if item not in (None, 0, 0.0)}
        return "{" + ", ".join(f"{key}: {item}" for key, item in kept.items()) + "}"
    return str(value)
