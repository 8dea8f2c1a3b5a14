"""The guide's goals as they stand in a tuning plan."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from altformer.schema import Strict

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
    """Goals for the campaign's winner, by the validation objective: after its first epoch (``initial``), at its best
    epoch in full training (``converged``), and as the best ensemble or correction of it (``final``).

    They are of ``dataset`` and of training for ``epochs`` epochs (None: of any), and are judged on such numbers only.
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
