"""What a run reads: a named data set or the user's own file, and the windows cut from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BeforeValidator, Field, model_validator

from altformer.data.specs import SIMULATED
from altformer.schema import Strict

_FILE_ONLY = ("freq", "split", "null_value", "graph")
_SIMULATED_ONLY = ("sensors", "days", "simulation_seed")


def _nan_by_name(value: Any) -> Any:
    """Spells nan as text, since a float nan equals nothing (not even itself) and is lost in JSON."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value.lower() if isinstance(value, str) else value


Finite = Annotated[float, AllowInfNan(False)]
NullValue = Annotated[Finite | Literal["nan"], BeforeValidator(_nan_by_name)]


class DatasetConfig(Strict):
    """The data set of a run and its windows.

    Exactly one of `name` (an entry of `specs.SPECS`, `simulated` or `auto`) and `path` (the user's own file) is
    given; freq, split, null_value and graph describe that file and are refused for a named data set, whose entry says
    them already. A plain string stands for `{name: string}`.
    """

    name: str | None = None
    path: Path | None = None
    freq: str | None = None  # "15min"; None: taken from the file's timestamps
    split: tuple[Finite, Finite, Finite] | None = None  # train : val : test, any scale; None: 7:1:2
    null_value: NullValue | None = None  # how the file marks a missing reading; None: 0
    graph: Path | None = None  # adj_mx.pkl or from,to,cost CSV
    sensors: Annotated[int, Field(ge=4, le=10_000)] | None = None  # `simulated` only, as the next two
    days: Annotated[int, Field(ge=2, le=3_660)] | None = None
    simulation_seed: Annotated[int, Field(ge=0)] | None = None
    input_len: int = Field(default=12, ge=1)
    output_len: int = Field(default=12, ge=1)
    val_stride: int = Field(default=1, ge=1)  # every k-th forecast origin is scored
    test_stride: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fields_fit_the_source(self) -> DatasetConfig:
        if (self.name is None) == (self.path is None):
            raise ValueError("give exactly one of name (a known data set) and path (your own file)")
        self._refuse(_FILE_ONLY, unless=self.path is not None, why="describes your own file and needs path")
        self._refuse(
            _SIMULATED_ONLY, unless=self.name in (SIMULATED, "auto"), why=f"belongs to the data set '{SIMULATED}'"
        )
        if self.split is not None and min(self.split) <= 0:
            raise ValueError(f"split needs three parts (train, val, test) above 0, got {list(self.split)}")
        return self

    def _refuse(self, fields: tuple[str, ...], *, unless: bool, why: str) -> None:
        given = [field for field in fields if getattr(self, field) is not None]
        if given and not unless:
            raise ValueError(f"{given[0]} {why}; this data set is '{self.name or self.path}'")
