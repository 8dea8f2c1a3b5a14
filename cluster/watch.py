"""Tune's callback: keeps how cells ended and what they cost, tries lost ones again, and tells the listeners."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster.budget import Budget, Spent
from cluster.faults import kind_of_lost
from cluster.guard import Guard
from cluster.interruption import Interruption
from cluster.lifeline import TUNE_THREAD
from cluster.queue import Queue
from cluster.retries import Attempts, Retries, Suspicion
from cluster.scheduler import FINAL, REPORT, Scheduler
from cluster.trial import TrialFaultError
from cluster.work import PAUSED, Ended, Fault, Listener, Work

logger = logging.getLogger(__name__)


class Watch(tune.Callback):  # type: ignore[misc]
    """One run of cells as it goes; ``gpus`` is what a trial holds of them. ``begin`` before Tune starts."""

    def __init__(
        self, works: Sequence[Work], listeners: Sequence[Listener], budget: Budget, gpus: float, retries: Retries
    ) -> None:
        self.works = tuple(works)
        self.ended: dict[str, Ended] = {}
        self.interruption = Interruption()
        self.budget_reached: str | None = None
        self.halted: str | None = None
        self.suspicion = Suspicion(works)
        self._by_key = {work.key: work for work in works}
        self._listeners = tuple(listeners)
        self._broken: set[int] = set()
        self._budget, self._gpus = budget, gpus
        self._attempts = Attempts(retries)
        self._start = time.monotonic()
        self._began: dict[str, float] = {}  # of cells that have a slot
        self._seconds: dict[str, float] = {}  # in slots that a cell has left
        self._held = 0.0  # the same, of all cells
        self._started: set[str] = set()
        self._paused: dict[str, Work] = {}
        self._last_fault: dict[str, Fault] = {}
        self._told_interrupted = self._told_held = self._closed = False
        self._guard: Guard
        self._queue: Queue
        self._scheduler: Scheduler

    def begin(self, guard: Guard, queue: Queue, scheduler: Scheduler) -> None:
        """What looks out for faults, takes cells back, and is told how cells end."""
        self._guard, self._queue, self._scheduler = guard, queue, scheduler
        queue.look_around = guard.look

    def is_over(self) -> bool:
        """Whether the run was asked to end and no cell runs any more; one that waits for room is not waited for."""
        return self.interruption.event.is_set() and not self._began

    @property
    def spent(self) -> Spent:
        """What the run has cost so far."""
        now = time.monotonic()
        held = self._held + sum(now - began for began in self._began.values())
        return Spent((now - self._start) / 3600, held * self._gpus / 3600, len(self._started))

    def tell(self, method: str, *arguments: Any) -> None:
        """Call all listeners; one that raises is reported once and never stops the run."""
        if self._is_late():
            return
        for listener in self._listeners:
            try:
                getattr(listener, method)(*arguments)
            except Exception:
                if id(listener) not in self._broken:
                    self._broken.add(id(listener))
                    logger.exception("%s failed in %s; the run goes on", type(listener).__name__, method)

    def halt(self, why: str) -> None:
        """Going on is pointless: start nothing more, let what runs leave."""
        if self.halted is None:
            self.halted = why
            self.interruption.ask(hurried=True)

    def close(self) -> None:
        """Nothing runs any more, or counts: cells that wait at a rung or for another attempt are left to go on."""
        self._closed = True
        for key in [*self._began, *self._paused, *self._last_fault]:
            if key not in self.ended:
                self._end(self._by_key[key], "interrupted", None, None)
        if self.halted is None and (count := self.suspicion.failing) and len(self.ended) < len(self.works):
            what = self.suspicion.summary
            self.halted = f"{count} cells have failed alike and none got further, so the others are not tried: {what}"

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at budget, nodes and cells; tell of an interruption, which a signal handler must not do."""
        if not self.interruption.event.is_set():
            self._guard.look()
            if limit := self._budget.reached(self.spent):
                self.budget_reached = limit
                self.interruption.ask()
        if self.interruption.event.is_set() and not self._told_interrupted:
            self._told_interrupted = True
            why = self.interruption.signal_name or self.halted or f"the budget of {self.budget_reached} is spent"
            self.tell("interrupted", why, self.interruption.grace_seconds)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell has its process."""
        work = self._work(trial)
        self._paused.pop(work.key, None)
        self._began[work.key] = time.monotonic()
        self._started.add(work.key)
        self._guard.started(work)
        self.tell("cell_started", work)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch has been reported."""
        if REPORT in result:
            work = self._work(trial)
            self._guard.reported(work)
            self._attempts.reported(work.key)
            self.suspicion.reported(work.key, int(result[REPORT].get("epoch", 0)))
            self.tell("cell_epoch", work, result[REPORT])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has returned."""
        final = (trial.last_result or {}).get(FINAL) or {"status": "interrupted", "result": None}
        work = self._work(trial)
        if final["status"] == PAUSED:
            self._leave_slot(work)
            self._paused[work.key] = work
            self.tell("cell_paused", work)
        elif final["status"] != "interrupted" or self.interruption.event.is_set():
            self._end(work, final["status"], final["result"], None)
        else:  # nobody asked it to, so it is not over
            self._lost(work, Fault("died", "it left before its end without having been asked to"), None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has raised, or a process of the trial has died."""
        error, work = _error_of(trial), self._work(trial)
        if isinstance(error, TrialFaultError):
            fault = error.fault
        else:
            kind = kind_of_lost(error)
            fault = Fault("died" if kind == "error" else kind, str(error))
        fault, node = self._guard.fault_of(work, fault)
        if self.interruption.event.is_set() and fault.kind not in ("error", "disk"):
            self._end(work, "interrupted", None, None)
        else:
            self._lost(work, fault, node)

    def _lost(self, work: Work, fault: Fault, node: str | None) -> None:
        """An attempt at a cell is lost: another one, or the end of it."""
        if self._is_late():
            return
        again = self._attempts.after(work.key, fault, node)
        if again is None:
            advice = self._attempts.why_not(work.key, fault, work.key in self._queue.doubled)
            self._end(work, "failed", None, f"{fault.text}\n{advice}" if advice else fault.text, fault)
            return
        self._leave_slot(work)
        self._last_fault[work.key] = fault
        self.tell("cell_retried", work, fault, self._attempts.retries(work.key))
        self._queue.again(work, again)

    def _is_late(self) -> bool:
        """Whether the cluster is lost, but not all of Tune's calls have noticed."""
        return self._closed and threading.current_thread().name == TUNE_THREAD

    def _work(self, trial: Any) -> Work:
        return self._by_key[trial.config["cell"]["key"]]

    def _leave_slot(self, work: Work) -> None:
        self._guard.left(work)
        began = self._began.pop(work.key, None)
        seconds = time.monotonic() - began if began is not None else 0.0
        self._seconds[work.key] = self._seconds.get(work.key, 0.0) + seconds
        self._held += seconds

    def _end(
        self, work: Work, status: str, result: dict[str, Any] | None, error: str | None, fault: Fault | None = None
    ) -> None:
        if self._is_late():
            return
        self._leave_slot(work)
        self._paused.pop(work.key, None)
        retries = self._attempts.retries(work.key)
        kind = fault.kind if fault else None
        self.ended[work.key] = Ended(status, result, error, self._seconds[work.key], kind, retries)
        if status != "interrupted":
            self._scheduler.ended(work.key, status)
            self.suspicion.ended(work, fault)
        self.tell("cell_ended", work, self.ended[work.key])
        if (count := self.suspicion.failing) and not self._told_held:
            self._told_held = True
            self.tell("notice", f"{count} cells have failed alike: no other is started until one gets further")

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        # Tune pickles its callbacks into a file of its own, from which we never restore.
        return tune.Callback, ()


def _error_of(trial: Any) -> BaseException | str:
    """What ended a trial: the train function's error itself, or what Ray says about its process."""
    file = trial.pickled_error_file
    if file is None or not Path(file).is_file():
        return "the trial ended with an error that Ray Tune has not kept"
    try:
        error = ray.cloudpickle.loads(Path(file).read_bytes())
    except Exception as broken:  # half written on a full disk, or of a class that is not known here
        return f"the trial ended with an error that cannot be read: {broken}"
    cause: BaseException | None = getattr(error, "cause", None)
    return cause if cause is not None else error
