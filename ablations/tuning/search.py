"""A search space, and the search over it with a tree-structured Parzen estimator: what to try next, given what was.

Free of cells and of the cluster: settings are asked for, results are told. The same seed, questions and answers give
the same settings again, so a search goes on after an interruption by asking and telling anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from altformer.errors import UserError
from altformer.schema import Strict
from experiments.fields import leaf

DIGITS = 3  # significant ones of a proposed number without a step: enough for a learning rate, and readable in a table
_METRIC = "objective"


class Uniform(Strict):
    """A number from ``low`` to ``high``, both included, in multiples of ``step`` above ``low`` where one is given."""

    type: Literal["uniform"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    step: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low >= self.high:
            raise ValueError(f"low must be below high {self.high}, low is {self.low}")
        return self


class LogUniform(Strict):
    """A number above 0 whose logarithm is uniform from that of ``low`` to that of ``high``."""

    type: Literal["loguniform"]
    low: float = Field(gt=0, allow_inf_nan=False)
    high: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> LogUniform:
        if self.low >= self.high:
            raise ValueError(f"low must be below high {self.high}, low is {self.low}")
        return self


class Choice(Strict):
    """One of some values, without an order."""

    type: Literal["choice"]
    values: list[str | int | float | bool] = Field(min_length=1)


Dimension = Annotated[Uniform | LogUniform | Choice, Field(discriminator="type")]


@dataclass(frozen=True)
class Proposal:
    """Settings to try (field -> value), and the name by which their result is told."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What became of a proposal: ``done`` with the objective, ``stopped`` with that of its last epoch, ``diverged``."""

    status: Literal["done", "stopped", "diverged"]
    value: float | None
    epoch: int


class TpeSearch:
    """Minimises an objective by Optuna's TPE (Bergstra et al. 2011; Watanabe 2023) through Ray Tune's OptunaSearch.

    The first ``startup`` proposals are random. Proposals of one round do not know of each other's results; the
    constant liar (as if those still open had been bad) keeps them apart. UserError where Optuna is not installed.
    """

    def __init__(self, space: Mapping[str, Uniform | LogUniform | Choice], seed: int, startup: int = 10) -> None:
        optuna = require_optuna()
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)  # not every trial a line of its own
        self._space = dict(space)
        self._search = OptunaSearch(
            space={field: _distribution(dimension) for field, dimension in space.items()},
            metric=_METRIC,
            mode="min",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True),
        )
        self._asked = 0

    def ask(self, count: int) -> list[Proposal]:
        """The settings of the next round."""
        return [self._propose() for _ in range(count)]

    def tell(self, proposal: Proposal, result: Result) -> None:
        """What a proposal came to.

        A stopped one counts by its last epoch's objective, as worse than any that was finished; a diverged one as
        worse than every other, so that the search stays away from it (told as an error it would be forgotten).
        """
        number = result.value if result.value is not None and math.isfinite(result.value) else None
        if result.status == "stopped" and number is not None:
            self._search.on_trial_result(proposal.name, {_METRIC: number, "training_iteration": result.epoch})
        finished = result.status == "done" and number is not None
        self._search.on_trial_complete(proposal.name, {_METRIC: number} if finished else None)

    def _propose(self) -> Proposal:
        self._asked += 1
        name = f"proposal-{self._asked}"
        suggested = self._search.suggest(name)
        return Proposal(name, {field: _rounded(suggested[field], self._space[field]) for field in self._space})


def label(settings: Mapping[str, Any]) -> str:
    """The name of settings by their values, under which logs of earlier runs have them: ``lr=0.00052,embed_dim=96``."""
    return ",".join(f"{leaf(field)}={value}" for field, value in settings.items())


def require_optuna() -> Any:
    """The module Optuna; UserError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "sampler: tpe needs Optuna, which is not installed; install it with: pip install 'altformer[optuna]', "
            "or search the grid with --sampler grid"
        ) from error
    return optuna


def _distribution(dimension: Uniform | LogUniform | Choice) -> Any:
    distributions = require_optuna().distributions
    if isinstance(dimension, Choice):
        return distributions.CategoricalDistribution(dimension.values)
    if isinstance(dimension, LogUniform):
        return distributions.FloatDistribution(dimension.low, dimension.high, log=True)
    return distributions.FloatDistribution(dimension.low, dimension.high, step=dimension.step)


def _rounded(value: Any, dimension: Uniform | LogUniform | Choice) -> Any:
    """The value as it is run: floats to few digits, since the rest is noise in every name, table and hash."""
    if isinstance(dimension, Choice):
        return value
    if isinstance(dimension, Uniform) and dimension.step is not None:
        return round(float(value), 10)  # multiples of 0.01 come out as 0.11000000000000001
    rounded = float(f"{value:.{DIGITS}g}")
    return min(max(rounded, dimension.low), dimension.high)
