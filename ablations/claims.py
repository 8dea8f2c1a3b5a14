"""A claim about an arm, as it stands in a matrix file: its text, and the check that decides on it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from altformer.schema import Strict

CHECKS = ("is", "equal_to", "parameters_fewer", "parameters", "below")


class Claim(Strict):
    """One claim with exactly one check.

    ``is``: better or worse than the baseline, best of all arms, or slower than the baseline (seconds per epoch).
    ``equal_to``: no difference to another arm. ``parameters_fewer``: the share of parameters saved against the
    baseline, for instance 0.4. ``parameters``: their number lies within two bounds. ``below``: ``metric`` after
    ``epoch`` (left out: at the best epoch of a cell that ran to its end) is below this number, on ``dataset`` (left
    out: any) and in a training of at least ``epochs`` (left out: of ``epoch``). ``note`` stands after the verdict.
    """

    model_config = ConfigDict(populate_by_name=True)

    text: str = Field(min_length=1)
    arm: str = Field(coerce_numbers_to_str=True)
    is_: Literal["better", "worse", "best", "slower"] | None = Field(None, alias="is")
    equal_to: str | None = Field(None, coerce_numbers_to_str=True)
    parameters_fewer: float | None = Field(None, gt=-1, lt=1)
    parameters: tuple[int, int] | None = None
    metric: Literal["val_mae", "val_mae_unmasked"] | None = None
    epoch: int | None = Field(None, ge=1)
    below: float | None = Field(None, gt=0)
    dataset: str | None = None
    epochs: int | None = Field(None, ge=1)
    note: str = ""

    @model_validator(mode="after")
    def _one_check(self) -> Claim:
        values = (self.is_, self.equal_to, self.parameters_fewer, self.parameters, self.below)
        given = [name for name, value in zip(CHECKS, values, strict=True) if value is not None]
        if len(given) != 1:
            raise ValueError(f"a claim takes exactly one of {', '.join(CHECKS)}; it has {', '.join(given) or 'none'}")
        if (self.below is None) != (self.metric is None) or (self.epoch and self.below is None):
            raise ValueError("below, metric and epoch go together: the metric after the epoch is below the number")
        if self.below is None and (self.dataset or self.epochs):
            raise ValueError("dataset and epochs say for which trainings a number after below counts")
        return self

    @property
    def needed_epochs(self) -> int:
        """Epochs that a training must be planned for to be comparable with the number claimed."""
        return max(self.epoch or 1, self.epochs or 1)


class Alias(Strict):
    """A further row of the report: the numbers of the arm ``of``, compared with the arm ``against``."""

    of: str = Field(coerce_numbers_to_str=True)
    against: str = Field(coerce_numbers_to_str=True)


class PublishedModel(Strict):
    """What is published of a model on a data set: MAE by step ahead and over ``all``, RMSE and MAPE over all.

    ``arm`` is the arm whose numbers stand beside it; without one the published numbers stand alone.
    """

    model_config = ConfigDict(extra="allow")

    arm: str | None = Field(None, coerce_numbers_to_str=True)
    all: float | None = None
    rmse: float | None = None
    mape: float | None = None
    parameters: str | None = Field(None, coerce_numbers_to_str=True)

    __pydantic_extra__: dict[str, float] = Field(init=False)

    @model_validator(mode="after")
    def _further_keys_are_steps(self) -> PublishedModel:
        for key in self.__pydantic_extra__ or {}:
            if not key.isdigit():
                raise ValueError(f"takes arm, all, rmse, mape, parameters and steps ahead such as 3; '{key}' is none")
        return self

    def mae(self, step: str) -> float | None:
        """The published MAE at a step ahead, or over ``all``."""
        return self.all if step == "all" else (self.__pydantic_extra__ or {}).get(step)


def text_keys(value: Any) -> Any:
    """Mappings in a value with their keys as text: YAML reads ``3:`` as a number."""
    return {str(key): text_keys(item) for key, item in value.items()} if isinstance(value, dict) else value
