"""Which cells are stopped early: none, arms shown to be futile, or Ray's asynchronous successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pydantic
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler as RayAsha
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cluster.futility import Contest, Decision, History, Race
from cluster.work import PAUSED

# Where a trial's result carries what the train function reported; Tune flattens results with "/".
REPORT = "report"
TIME = f"{REPORT}/epoch"

#: Where a trial's last result carries how its cell ended.
FINAL = "final"

#: Asks one trial (by its cell's key) to leave after the epoch it has just reported, and why.
AskToStop = Callable[[str, str], None]

#: The metric by epoch in the checkpoint that a cell (by its key) resumes from; empty without one.
Saved = Callable[[str], Sequence[float]]


class Scheduler(Protocol):
    """What decides which cells go on."""

    def build(self, metric: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Tune's scheduler for one run; of ``metric`` less is better."""

    def decision(self, key: str) -> Decision:
        """Whether a cell that has no slot may have one, waits for others, or is only to stop."""

    def ended(self, key: str, status: str) -> None:
        """A cell will report no more."""


class InOrder(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler that starts trials as they come and never stops one."""

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune starts what is pending by itself, and Ray's FIFO looks through all trials, at every event."""

    def __reduce__(self) -> tuple[type[FIFOScheduler], tuple[()]]:
        # Tune pickles the scheduler into a file of its own, from which we never restore.
        return FIFOScheduler, ()


class NoScheduler(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Every cell trains to its end."""

    def build(self, metric: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Tune's scheduler that starts cells in order and never stops one."""
        return InOrder()

    def decision(self, key: str) -> Decision:
        """Every cell may run."""
        return "go"

    def ended(self, key: str, status: str) -> None:
        """Nobody waits for it."""


class AshaScheduler(pydantic.BaseModel, frozen=True, extra="forbid"):
    """At epochs grace_period x reduction_factor^k only the best 1/reduction_factor of those seen so far go on.

    For a search. Not for a comparison of arms: which cell is stopped depends on the order in which they arrive.
    """

    max_epochs: int = pydantic.Field(ge=1)
    grace_period: int = pydantic.Field(default=1, ge=1)
    reduction_factor: float = pydantic.Field(default=4.0, gt=1)

    @pydantic.model_validator(mode="after")
    def _grace_within(self) -> AshaScheduler:
        if self.grace_period > self.max_epochs:
            raise ValueError(f"grace_period {self.grace_period} is more than max_epochs {self.max_epochs}")
        return self

    def build(self, metric: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Ray's ASHA on the reported `epoch`, asking cells to leave instead of killing them."""
        return CooperativeAsha(
            ask_to_stop,
            time_attr=TIME,
            metric=f"{REPORT}/{metric}",
            mode="min",
            # Ray stops a trial whose epoch reaches max_t, which would cut the last epoch's final evaluation.
            max_t=self.max_epochs + 1,
            grace_period=self.grace_period,
            reduction_factor=self.reduction_factor,
        )

    def decision(self, key: str) -> Decision:
        """Every cell may run; it is stopped while it does."""
        return "go"

    def ended(self, key: str, status: str) -> None:
        """Nobody waits for it."""


class CooperativeAsha(InOrder, RayAsha):  # type: ignore[misc]
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
                self._ask_to_stop(cell["key"], "scheduler")
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """The final result repeats no epoch, so there is nothing left to count."""


def _nothing_saved(key: str) -> Sequence[float]:
    return ()


@dataclass(frozen=True)
class FutilityScheduler:
    """Cells of a comparison wait at rungs until their arm can be judged as a whole (see cluster.futility).

    ``history`` is what is known of cells, also of those that are not run any more; cells in ``never`` are not stopped.
    ``saved`` tells what a cell that lost an attempt resumes after: an epoch is saved before it is reported.
    """

    contests: tuple[Contest, ...]
    history: Mapping[str, History] = field(default_factory=dict)
    never: frozenset[str] = frozenset()
    saved: Saved = _nothing_saved
    race: Race = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "race", Race(self.contests, self.history, self.never))

    def build(self, metric: str, ask_to_stop: AskToStop) -> TrialScheduler:
        """Tune's scheduler that asks cells to leave at a rung, to wait or for good."""
        return RungByRung(self.race, f"{REPORT}/{metric}", ask_to_stop, self.saved)

    def decision(self, key: str) -> Decision:
        """As the race has it."""
        return self.race.decision(key)

    def ended(self, key: str, status: str) -> None:
        """It is waited for no longer."""
        self.race.ended(key, status)


class RungByRung(InOrder):
    """Tells the race what is reported, and cells what it decides; as with ASHA here, a stop is a request."""

    def __init__(self, race: Race, metric: str, ask_to_stop: AskToStop, saved: Saved) -> None:
        super().__init__()
        self._race, self._value, self._ask_to_stop, self._saved = race, metric, ask_to_stop, saved

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """An epoch: the cell goes on, or leaves its slot."""
        cell, epoch = trial.config["cell"], result.get(TIME)
        if epoch is not None:
            if epoch > self._race.epochs(cell["key"]) + 1:  # a former attempt, or another process, has saved more
                self._catch_up(trial)
            decision = self._race.reported(cell["key"], epoch, result.get(self._value))
            if decision != "go" and (cell["epochs"] is None or epoch < cell["epochs"]):
                self._ask_to_stop(cell["key"], "scheduler" if decision == "stop" else PAUSED)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """An attempt is lost, perhaps with the report of an epoch that the next one resumes after, at a rung."""
        self._catch_up(trial)

    def _catch_up(self, trial: Trial) -> None:
        key = trial.config["cell"]["key"]
        self._race.resumes(key, self._saved(key))
