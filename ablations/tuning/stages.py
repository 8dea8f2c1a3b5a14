"""The kinds of stages of a tuning plan, and the gate that may stand behind one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ablations.early_stopping import Asha, NoScheduler
from ablations.matrix import Objective, Values
from ablations.per_profile import PerProfile
from ablations.tuning.search import Dimension
from altformer.schema import Strict

Arms = dict[str, dict[str, Any]]
Scheduler = Annotated[NoScheduler | Asha, Field(discriminator="type")]


class Bound(Strict):
    """One threshold of a gate and the stage behind it."""

    value: float = Field(gt=0, allow_inf_nan=False)
    then: str


class Gate(Strict):
    """Where to go on from the best arm's validation objective: ``below``, ``above`` or ``between`` two thresholds.

    Thresholds are of numbers of one kind: profile full, trained and selected with missing readings scored, on
    ``dataset`` (None: on any). For other numbers the way is ``otherwise`` (by default that of ``between``).
    """

    below: Bound
    above: Bound
    between: str
    otherwise: str | None = None
    dataset: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Gate:
        if self.above.value < self.below.value:
            raise ValueError(f"above must not be less than below ({self.below.value}), above is {self.above.value}")
        return self

    @property
    def ways(self) -> dict[str, str]:
        """Key -> stage of every way out."""
        ways = {"below.then": self.below.then, "above.then": self.above.then, "between": self.between}
        return ways if self.otherwise is None else {**ways, "otherwise": self.otherwise}


class Stage(Strict):
    """What all stages have.

    ``start`` is the configuration that a stage changes: the winner so far, or the base experiment. ``next`` is the
    stage that follows (by default the one written below, or ``end``).
    """

    title: str = ""
    start: Literal["winner", "base"] = "winner"
    next: str | None = None
    seeds: PerProfile = PerProfile(quick=1, full=3)

    @field_validator("scheduler", mode="before", check_fields=False)
    @classmethod
    def _name_is_short_for_type(cls, value: Any) -> Any:
        return {"type": value or "none"} if value is None or isinstance(value, str) else value

    @field_validator("arms", mode="before", check_fields=False)
    @classmethod
    def _plain_arms(cls, value: Any) -> Any:
        return {str(key): item or {} for key, item in value.items()} if isinstance(value, dict) else value


class ArmsStage(Stage):
    """Named arms, all trained to their end; the best on validation wins.

    ``epochs`` (where given) hold in this stage alone; after it the winner is trained as long as the base says.
    """

    type: Literal["arms"]
    arms: Arms = Field(min_length=1)
    baseline: str | None = None
    epochs: int | None = Field(None, ge=1)
    gate: Gate | None = None


class SearchStage(Stage):
    """A search: all combinations of ``grid``, or ``rounds`` x ``round_size`` proposals of TPE within ``space``.

    ``arms`` (the start itself, say) are tried first; the best of all on validation wins.
    """

    type: Literal["search"]
    sampler: Literal["grid", "tpe"] = "grid"
    arms: Arms = Field(default_factory=dict)
    grid: dict[str, Values] = Field(min_length=1)
    space: dict[str, Dimension] = Field(default_factory=dict)
    rounds: int = Field(5, ge=1)
    round_size: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    scheduler: Scheduler = NoScheduler()
    seeds: PerProfile = PerProfile(quick=1, full=1)


class EnsembleStage(Stage):
    """The mean forecast of the winner trained with several seeds, for each number of members in ``sizes``."""

    type: Literal["ensemble"]
    sizes: list[Annotated[int, Field(ge=3, le=5)]] = Field(default=[3, 4, 5], min_length=1)


class DistillationStage(Stage):
    """A student, the winner with ``student`` laid over it, alone and with the winner as teacher at each weight."""

    type: Literal["distillation"]
    student: dict[str, Any] = Field(min_length=1)
    weights: list[Annotated[float, Field(gt=0, le=1)]] = Field(default=[0.5], min_length=1)


class PostprocessingStage(Stage):
    """The winner's forecasts without and with each causal correction."""

    type: Literal["postprocessing"]
    methods: list[Literal["exponential", "kalman"]] = Field(default=["exponential", "kalman"], min_length=1)


class DatasetsStage(Stage):
    """The winner trained on other data sets: those named, or all that are ``at-hand``.

    ``settings`` are fields in which it is trained otherwise than it was tuned, such as the loss of published numbers,
    and ``objective`` what its reports are by then (None: the plan's own).
    """

    type: Literal["datasets"]
    objective: Objective | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    datasets: Literal["at-hand"] | list[str] = "at-hand"


AnyStage = Annotated[
    ArmsStage | SearchStage | EnsembleStage | DistillationStage | PostprocessingStage | DatasetsStage,
    Field(discriminator="type"),
]
