"""An accuracy campaign as it is written in YAML: where it starts, what is tried, and what is published of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ablations.written import Written
from altformer.errors import unknown_name
from altformer.schema import Strict
from experiments.mistakes import explain
from experiments.yaml_file import read_yaml

PACKAGE = Path(__file__).parent
START = "start"  # the candidate of every round that changes nothing

Settings = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
Bound = Annotated[str, Field(pattern=r"^(<|<=) \d+(\.\d+)?$")]  # such as "< 2.86"


class _Named(Strict):
    """A part of the plan in which a mapping without settings may be left empty."""

    @field_validator("candidates", "arms", "datasets", "settings", mode="before", check_fields=False)
    @classmethod
    def _nothing_set(cls, value: Any) -> Any:
        if isinstance(value, list):  # of data sets
            return {str(name): {} for name in value}
        if isinstance(value, dict):
            return {str(name): {} if given is None else given for name, given in value.items()}
        return {} if value is None else value


class Training(_Named):
    """One configuration, trained with seeds 0 to ``seeds`` - 1 on every data set, and scored on its test set once.

    ``settings`` are laid on top of what the step starts from; a data set may have more of its own.
    """

    datasets: dict[str, Settings] = Field({"METR-LA": {}}, min_length=1)
    seeds: int = Field(5, ge=1)
    settings: Settings = Field(default_factory=dict)


class Round(_Named):
    """Candidates, each with what it changes of the best before; the least validation MAE is the next start.

    No test set is read. ``settings`` (fewer epochs, say) hold in this round alone.
    """

    dataset: str = "METR-LA"
    seeds: int = Field(1, ge=1)
    settings: Settings = Field(default_factory=dict)
    candidates: dict[Name, Settings] = Field(min_length=1)

    @field_validator("candidates")
    @classmethod
    def _start_is_ours(cls, value: dict[str, Settings]) -> dict[str, Settings]:
        if START in value:
            raise ValueError(f"'{START}' is in every round by itself: what the round starts from")
        return value


class Ablation(_Named):
    """The final configuration of a data set, with one thing changed or taken away in each arm."""

    dataset: str = "METR-LA"
    seeds: int = Field(3, ge=1)
    arms: dict[Name, Settings] = Field(min_length=1)


class Steps(Strict):
    """The steps in their order; each may be left out."""

    first: Training | None = None
    tune: dict[Name, Round] = Field(default_factory=dict)
    final: Training | None = None
    ablate: Ablation | None = None

    @model_validator(mode="after")
    def _ablate_what_is_final(self) -> Steps:
        if self.ablate is None:
            return self
        if self.final is None or self.ablate.dataset not in self.final.datasets:
            raise ValueError(
                f"ablate takes the final configuration of {self.ablate.dataset}, which final does not train"
            )
        if self.ablate.seeds > self.final.seeds:
            raise ValueError(f"ablate has {self.ablate.seeds} seeds, more than the {self.final.seeds} of final")
        return self


class Goals(Strict):
    """Bounds on a data set, the easiest first.

    Of the test ``mae`` over all steps, mean over seeds, and of the minutes that one seed trains.
    """

    mae: tuple[Bound, ...] = ()
    minutes: float | None = Field(None, gt=0)


class Machine(Strict):
    """Where the campaign trains; the threads are part of a cell's identity, so they do not follow the machine.

    ``seeds_at_once``: the seeds of a configuration whose test set is read are trained as one model, where that can be.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1)
    seeds_at_once: bool = False


class AccuracyPlan(Written):
    """An accuracy campaign: ``settings`` over the ``base`` experiment are its start."""

    KIND = "accuracy campaign"
    SHIPPED = PACKAGE

    name: Name
    title: str = ""
    base: str
    profile: Literal["full", "quick"] = "full"
    machine: Machine = Machine()
    max_parameters: int = Field(1_500_000, ge=1)
    settings: Settings = Field(default_factory=dict)
    goals: dict[str, Goals] = Field(default_factory=dict)
    steps: Steps


def load_plan(name: str) -> AccuracyPlan:
    """Read a campaign given by path, or by the name of a shipped one; UserError with file and line of a mistake."""
    path = _file(name)
    values, lines = read_yaml(path)
    try:
        plan = AccuracyPlan.model_validate(values)
    except ValidationError as error:
        raise explain(error, AccuracyPlan, path, lines, AccuracyPlan.KIND) from None
    return plan.read_from(path, lines)


def meets(value: float, bound: str) -> bool:
    """Whether a number keeps a bound such as ``< 2.86``."""
    sign, number = bound.split()
    return value < float(number) if sign == "<" else value <= float(number)


def _file(name: str) -> Path:
    for path in (Path(name), PACKAGE / f"{name}.yaml"):
        if path.is_file():
            return path
    raise unknown_name("campaign", name, [path.stem for path in PACKAGE.glob("*.yaml")])
