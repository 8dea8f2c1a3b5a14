"""Tune's callback: keeps how cells ended and what they cost, tells the listeners, and looks at the budget."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util import remove_placement_group

from cluster.budget import Budget, Spent
from cluster.interruption import Interruption
from cluster.scheduler import FINAL, REPORT
from cluster.trial import TrainFunctionError
from cluster.work import PAUSED, Ended, Listener, Work

logger = logging.getLogger(__name__)


class Watch(tune.Callback):  # type: ignore[misc]
    """One run of cells as it goes; ``gpus`` is what a trial holds of them."""

    def __init__(self, works: Sequence[Work], listeners: Sequence[Listener], budget: Budget, gpus: float) -> None:
        self.works = tuple(works)
        self.ended: dict[str, Ended] = {}
        self.interruption = Interruption()
        self.budget_reached: str | None = None
        self.mailbox: Any = None
        self._by_key = {work.key: work for work in works}
        self._listeners = tuple(listeners)
        self._broken: set[int] = set()
        self._budget, self._gpus = budget, gpus
        self._start = time.monotonic()
        self._began: dict[str, float] = {}  # of cells that have a slot
        self._seconds: dict[str, float] = {}  # in slots that a cell has left
        self._paused: dict[str, Work] = {}
        self._told_interrupted = False

    @property
    def spent(self) -> Spent:
        """What the run has cost so far."""
        now = time.monotonic()
        held = sum(self._seconds.values()) + sum(now - began for began in self._began.values())
        started = len(self._seconds.keys() | self._began.keys())
        return Spent((now - self._start) / 3600, held * self._gpus / 3600, started)

    def tell(self, method: str, *arguments: Any) -> None:
        """Call all listeners; one that raises is reported once and never stops the run."""
        for listener in self._listeners:
            try:
                getattr(listener, method)(*arguments)
            except Exception:
                if id(listener) not in self._broken:
                    self._broken.add(id(listener))
                    logger.exception("%s failed in %s; the run goes on", type(listener).__name__, method)

    def close(self) -> None:
        """Nothing runs any more: cells that still wait at a rung are left to be gone on with."""
        for work in list(self._paused.values()):
            self._end(work, "interrupted", None, None)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the budget; tell of an interruption from the main thread."""
        if not self.interruption.event.is_set() and (limit := self._budget.reached(self.spent)):
            self.budget_reached = limit
            self.interruption.ask()
        if self.interruption.event.is_set() and not self._told_interrupted:
            self._told_interrupted = True
            why = self.interruption.signal_name or f"the budget of {self.budget_reached} is spent"
            self.tell("interrupted", why, self.interruption.grace_seconds)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell has its process."""
        work = self._work(trial)
        self._paused.pop(work.key, None)
        self._began[work.key] = time.monotonic()
        self.tell("cell_started", work)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch has been reported."""
        if REPORT in result:
            self.tell("cell_epoch", self._work(trial), result[REPORT])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has returned."""
        final = (trial.last_result or {}).get(FINAL) or {"status": "interrupted", "result": None}
        work = self._work(trial)
        if final["status"] == PAUSED:
            self._leave_slot(work)
            self._paused[work.key] = work
            self.tell("cell_paused", work)
        else:
            self._end(work, final["status"], final["result"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has raised, or the trial's process has died."""
        error, work = _error_of(trial), self._work(trial)
        if isinstance(error, TrainFunctionError):
            self._end(work, "failed", None, str(error))
            return
        self._release(work.key)
        if self.interruption.event.is_set():
            self._end(work, "interrupted", None, None)
        else:
            self._end(work, "failed", None, str(error))

    def _work(self, trial: Any) -> Work:
        return self._by_key[trial.config["cell"]["key"]]

    def _release(self, key: str) -> None:
        """Give back what a trial's workers held whose process has died, and with it whoever would have done so."""
        with contextlib.suppress(ray.exceptions.RayError):  # else at the end of the matrix
            for group in ray.get(self.mailbox.groups.remote(key), timeout=10):
                remove_placement_group(group)

    def _leave_slot(self, work: Work) -> None:
        began = self._began.pop(work.key, None)
        seconds = time.monotonic() - began if began is not None else 0.0
        self._seconds[work.key] = self._seconds.get(work.key, 0.0) + seconds

    def _end(self, work: Work, status: str, result: dict[str, Any] | None, error: str | None) -> None:
        self._leave_slot(work)
        self._paused.pop(work.key, None)
        self.ended[work.key] = Ended(status, result, error, self._seconds[work.key])
        self.tell("cell_ended", work, self.ended[work.key])

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        # Tune pickles its callbacks into a file of its own, from which we never restore.
        return tune.Callback, ()


def _error_of(trial: Any) -> BaseException | str:
    """What ended a trial: the train function's error itself, or what Ray says about its process."""
    file = trial.pickled_error_file
    if file is None or not Path(file).is_file():
        return "the trial ended with an error that Ray Tune has not kept"
    error = ray.cloudpickle.loads(Path(file).read_bytes())
    cause: BaseException | None = getattr(error, "cause", None)
    return cause if cause is not None else error
