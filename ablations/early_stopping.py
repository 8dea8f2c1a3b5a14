"""Which rule stops the cells of a matrix early, as it is written in YAML."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator

from ablations.per_profile import PerProfile
from altformer.schema import Strict


class NoScheduler(Strict):
    """Every cell runs to its own end."""

    type: Literal["none"] = "none"


class Asha(Strict):
    """Ray's asynchronous successive halving on the objective, by epoch; for searches, since it favours early cells."""

    type: Literal["asha"] = "asha"
    grace_period: PerProfile = PerProfile(quick=1, full=10)
    reduction_factor: int = Field(3, ge=2)


class Futility(Strict):
    """Stops an arm that is shown to be worse than the baseline by more than ``margin`` at a rung; for comparisons.

    ``rungs`` are shares of the baseline's epochs. At each, once all seeds of an arm are there, a one-sided paired t
    test asks whether its best objective so far is worse than the baseline's by more than ``margin``, at ``alpha``
    divided by the number of rungs. Neither the order of arrival nor other arms play a part; the baseline is never
    stopped.
    """

    type: Literal["futility"] = "futility"
    rungs: tuple[float, ...] = (0.25, 0.5)
    margin: float = Field(0.02, ge=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)

    @field_validator("rungs")
    @classmethod
    def _rising_shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < share < 1 for share in value) or list(value) != sorted(set(value)):
            raise ValueError("takes rising shares of the epochs between 0 and 1, such as [0.25, 0.5]")
        return value

    def rungs_of(self, epochs: int) -> tuple[int, ...]:
        """The rungs as epochs: each share of the epochs rounded up, below the last epoch, each once."""
        return tuple(sorted({rung for share in self.rungs if (rung := math.ceil(share * epochs)) < epochs}))
