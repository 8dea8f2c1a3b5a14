"""Which cells are stopped early: none, or Ray's asynchronous successive halving (Li et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler as RayAsha
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

# Where a trial's result carries what the train function reported; Tune flattens results with "/".
REPORT = "report"
TIME = f"{REPORT}/epoch"

#: Asks one trial (by its cell's key) to leave after the epoch it has just reported.
AskToStop = Callable[[str], None]


class _Config(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class NoScheduler(_Config):
    """Every cell trains to its end."""

    type: Literal["none"] = "none"

    def build(self, metric: str, mode: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Tune's scheduler that starts cells in order and never stops one."""
        return FIFOScheduler()


class AshaScheduler(_Config):
    """At epochs grace_period x reduction_factor^k only the best 1/reduction_factor of those seen so far go on.

    For a search. Not for a comparison of arms: which cell is stopped depends on the order in which they arrive.
    """

    type: Literal["asha"] = "asha"
    max_epochs: int = pydantic.Field(ge=1)
    grace_period: int = pydantic.Field(default=1, ge=1)
    reduction_factor: float = pydantic.Field(default=4.0, gt=1)

    @pydantic.model_validator(mode="after")
    def _grace_within(self) -> AshaScheduler:
        if self.grace_period > self.max_epochs:
            raise ValueError(f"grace_period {self.grace_period} is more than max_epochs {self.max_epochs}")
        return self

    def build(self, metric: str, mode: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Ray's ASHA on the reported `epoch`, asking cells to leave instead of killing them."""
        return CooperativeAsha(
            ask_to_stop,
            time_attr=TIME,
            metric=f"{REPORT}/{metric}",
            mode=mode,
            # Ray stops a trial whose epoch reaches max_t, which would cut the last epoch's final evaluation.
            max_t=self.max_epochs + 1,
            grace_period=self.grace_period,
            reduction_factor=self.reduction_factor,
        )


SchedulerConfig = Annotated[NoScheduler | AshaScheduler, pydantic.Field(discriminator="type")]
_ADAPTER: pydantic.TypeAdapter[NoScheduler | AshaScheduler] = pydantic.TypeAdapter(SchedulerConfig)


def parse_scheduler(value: Any) -> NoScheduler | AshaScheduler:
    """The scheduler for a word (`none`) or a mapping with `type`; raises pydantic.ValidationError."""
    return _ADAPTER.validate_python({"type": value} if isinstance(value, str) else value)


class CooperativeAsha(RayAsha):  # type: ignore[misc]
    """ASHA whose stop is a request: the trial leaves by itself, and only its own end ends it for Tune.

    Tune's way would drop the trial while it still trains; this way its last result, its checkpoint and its slot are
    handed over in order. Values that cannot be compared (none, NaN) neither count nor stop; a diverged cell says so
    itself.
    """

    def __init__(self, ask_to_stop: AskToStop, **settings: Any) -> None:
        super().__init__(**settings)
        self._ask_to_stop = ask_to_stop

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide as Ray does, but never at the cell's last epoch."""
        value = result.get(self._metric)
        if value is None or not math.isfinite(value):
            return str(TrialScheduler.CONTINUE)
        action = str(super().on_trial_result(tune_controller, trial, result))
        if action == TrialScheduler.STOP:
            cell = trial.config["cell"]
            last = cell["epochs"]
            if last is None or result[TIME] < last:
                self._ask_to_stop(cell["key"])
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """The final result repeats no epoch, so there is nothing left to count."""

    def __reduce__(self) -> tuple[type[FIFOScheduler], tuple[()]]:
        # Tune pickles the scheduler into a file of its own, from which we never restore.
        return FIFOScheduler, ()
