"""A tuning plan as it is written in YAML: a base experiment, stages in order with gates between them, and goals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ablations.matrix import Objective
from ablations.per_profile import for_profile
from ablations.tuning.stages import AnyStage, ArmsStage, SearchStage, Stage
from ablations.written import Written
from altformer.errors import UserError, unknown_name
from altformer.schema import Strict
from cluster.resources import Resources
from experiments.compose import HERE
from experiments.fields import locate
from experiments.mistakes import explain
from experiments.yaml_file import read_yaml

END = "end"  # what follows the last stage
SAMPLERS = ("grid", "tpe")
Part = Literal["initial", "converged", "final"]
PARTS: tuple[Part, ...] = ("initial", "converged", "final")


class Goal(Strict):
    """A number to fall below: one that should be in reach, and a harder one."""

    conservative: float = Field(gt=0, allow_inf_nan=False)
    aggressive: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Goal:
        if self.aggressive > self.conservative:
            raise ValueError(f"aggressive must not be above conservative {self.conservative}, it is {self.aggressive}")
        return self


class Goals(Strict):
    """Goals for the campaign's winner, by the validation objective.

    After its first epoch (``initial``), at its best epoch in full training (``converged``), and as the best ensemble or
    correction of it (``final``). They are of ``dataset`` and of training for ``epochs`` epochs (None: of any), and are
    judged on such numbers only.
    """

    dataset: str | None = None
    epochs: int | None = Field(None, ge=1)
    initial: Goal | None = None
    converged: Goal | None = None
    final: Goal | None = None

    def of(self, part: Part) -> Goal | None:
        """The goal of a part of the way."""
        found: Goal | None = getattr(self, part)
        return found


class TuningPlan(Written):
    """A tuning plan. ``settings`` hold in every stage; ``objective`` is what every choice is made by, on validation.

    ``goals`` are judged in the report, and decide nothing.

    Anywhere in the file ``{quick: ..., full: ...}`` stands for one value per profile.
    """

    KIND = "tuning plan"
    SHIPPED = HERE

    name: str = Field("tuning", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    title: str = ""
    base: str
    settings: dict[str, Any] = Field(default_factory=dict)
    objective: Objective = "val_mae"
    resources: Resources = Resources()
    goals: Goals | None = None
    stages: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")], AnyStage] = Field(min_length=1)

    def with_resources(self, resources: Resources) -> TuningPlan:
        """The same plan on other resources."""
        return self.model_copy(update={"resources": resources})

    def following(self, name: str) -> str:
        """The stage after one: its ``next``, else the one written below it, else ``end``."""
        names = [*self.stages, END]
        return self.stages[name].next or names[names.index(name) + 1]


def load_tuning(path: Path, profile: str, sampler: str | None = None) -> TuningPlan:
    """Read a plan as it is in a profile, searching with ``sampler`` where given; UserError with file and line."""
    values, lines = read_yaml(path)
    values = for_profile(values, profile)
    if sampler is not None:
        values = _with_sampler(values, sampler)
    try:
        tuning = TuningPlan.model_validate(values)
    except ValidationError as error:
        raise explain(error, TuningPlan, path, lines, TuningPlan.KIND) from None
    tuning.read_from(path, lines)
    for field in tuning.settings:
        locate(field, tuning.where("settings", field))
    for name, stage in tuning.stages.items():
        _check(tuning, name, stage)
    return tuning


def _with_sampler(values: dict[str, Any], sampler: str) -> dict[str, Any]:
    stages = values.get("stages")
    if not isinstance(stages, Mapping):
        return values
    changed = {
        name: {**stage, "sampler": sampler} if isinstance(stage, Mapping) and stage.get("type") == "search" else stage
        for name, stage in stages.items()
    }
    return {**values, "stages": changed}


def _check(tuning: TuningPlan, name: str, stage: Stage) -> None:
    """UserError for a way to a stage that is not written further down, and for what a stage names or needs and lacks.

    Since every way leads down the file, every campaign ends.
    """
    names = list(tuning.stages)
    later = [*names[names.index(name) + 1 :], END]
    ways = {"next": stage.next} if stage.next else {}
    if isinstance(stage, ArmsStage) and stage.gate:
        ways |= {f"gate.{key}": way for key, way in stage.gate.ways.items()}
    for key, way in ways.items():
        if way not in later:
            raise unknown_name("later stage", way, later, tuning.where("stages", name, *key.split(".")))
    if isinstance(stage, ArmsStage) and stage.baseline is not None and stage.baseline not in stage.arms:
        raise unknown_name("baseline arm", stage.baseline, stage.arms, tuning.where("stages", name, "baseline"))
    if isinstance(stage, SearchStage):
        for field in stage.space:
            locate(field, tuning.where("stages", name, "space", field))
        if stage.sampler == "tpe" and not stage.space:
            raise UserError(f"{tuning.where('stages', name)}: sampler tpe needs a space: to search in")
