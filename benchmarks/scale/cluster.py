"""A cluster that is only simulated: nodes and trials as events in virtual time, driven by what drives real ones.

`SimulatedCluster.run_cells` takes the place of `cluster.runner.run_cells`. Queue, scheduler, watch, guard and listeners
are those of a real run; Ray Tune, Ray and training are not there. As Tune does, it takes one event at a time, and asks
before each whether a slot can be given to another cell.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import ray

from altformer.files import write_json
from benchmarks.scale.costs import Costs, Timed
from benchmarks.scale.courses import course_of, record_of
from benchmarks.scale.nodes import Clock, Nodes, SimulatedGuard, Trial, Usage
from cluster.budget import Budget
from cluster.hangs import Patience
from cluster.queue import Queue
from cluster.resources import Resources
from cluster.retries import Retries
from cluster.scheduler import FINAL, REPORT, TIME, Scheduler
from cluster.trial import TrialFaultError
from cluster.watch import Watch
from cluster.work import PAUSED, Fault, Listener, Outcome, Work
from experiments import provenance

START_SECONDS, TAIL_SECONDS, LEAVE_SECONDS = 1.0, 5.0, 0.2  # of a cell in its slot: before its epochs, after, stopped
NOTICED_SECONDS = 5.0  # until Ray tells that a node is lost
CLOCKED = (
    "cluster.watch",
    "cluster.guard",
    "ablations.events",
    "cluster.tracking.tracker",
)  # modules whose time is virtual
AWAY_SECONDS = 600.0  # that a lost node stays so
OF_TRIALS = "records written by trials"  # a part of the costs that is no driver's


class SimulatedCluster:
    """`nodes` with `gpus` each, one cell on each GPU; a node is lost every `node_hours` of its own, for a while.

    `replace_listeners` may give a run other listeners than it was called with. `folder` is for the simulation's files.
    """

    def __init__(
        self,
        nodes: int,
        gpus: int,
        epoch_seconds: float,
        node_hours: float,
        folder: Path,
        replace_listeners: Callable[[Sequence[Listener], Clock], Sequence[Listener]],
    ) -> None:
        self.clock, self.costs, self.usage = Clock(), Costs(), Usage()
        self.slots, self.steps, self.epochs, self.payload_bytes = nodes * gpus, 0, 0, 0
        self._nodes, self._gpus, self._epoch_seconds = Nodes(nodes, gpus), gpus, epoch_seconds
        self._node_seconds = 3600 * node_hours
        self._replace_listeners = replace_listeners
        self._dice = np.random.default_rng(0)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._running: dict[str, Trial] = {}
        self._pending: list[Trial] = []
        self._saved: dict[str, int] = {}  # epochs, by cell
        self._free = [name for name in self._nodes.alive for _ in range(gpus)]
        self._noticed_at: dict[str, float] = {}  # of nodes that are lost
        self._folder = folder
        self._works: dict[str, Work] = {}
        self._watch: Watch
        self._queue: Queue
        self._scheduler: Any

    def run_cells(
        self,
        works: Sequence[Work],
        train_function: Any,
        shared: Any,
        *,
        resources: Resources,
        scheduler: Scheduler,
        connection: Any,
        storage: Path,
        listeners: Sequence[Listener],
        metric: str,
        budget: Budget,
        retries: Retries,
    ) -> Outcome:
        """Run every work in virtual time."""
        self._works = {work.key: work for work in works}
        self.payload_bytes = len(ray.cloudpickle.dumps({key: work.payload for key, work in self._works.items()}))
        resources = resources.resolved(self._nodes.resources)
        with ExitStack() as patches:
            for module in CLOCKED:
                patches.enter_context(patch(f"{module}.time", self.clock))
            versions, hardware = provenance.versions(), provenance.hardware("cpu")  # of each record; looked up once
            patches.enter_context(patch.object(provenance, "versions", lambda: versions))
            patches.enter_context(patch.object(provenance, "hardware", lambda device: hardware))
            own = self._replace_listeners(listeners, self.clock)
            timed: Any = [Timed(one, self.costs, type(one).__name__) for one in own]
            self._watch = watch = Watch(works, timed, budget, resources.gpus_per_worker or 0.0, retries)
            watch.tell("matrix_started", works, self.slots)
            self._queue = Queue(works, self.slots, scheduler.decision, watch.interruption.event)
            guard = SimulatedGuard(
                self._running, self.clock, self._works, None, self._queue, self._nodes, resources, Patience(), watch
            )
            watch.begin(guard, self._queue, scheduler)
            self._scheduler = scheduler.build(metric, self._ask_to_stop)
            self._break_now_and_then()
            self._drive()
            watch.close()
            for name in [*self._noticed_at]:
                self._count_away(name)
            self.usage.there = self.clock.now * self.slots - self.usage.away
            outcome = Outcome(dict(watch.ended), (), None, self.slots, self.clock.now, spent=watch.spent)
            watch.tell("matrix_ended", outcome)
        return outcome

    def _drive(self) -> None:
        """One event after another until the queue has come to its end."""
        while True:
            self.steps += 1
            with self.costs.part("watch before each event"):
                self._watch.on_step_begin(self.steps, [])
            is_over = self._give_out()
            if is_over and not self._running:
                return
            self.clock.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)

    def _give_out(self) -> bool:
        """Give slots to cells while the queue has some; whether it has come to its end."""
        while True:
            while self._pending and self._free:
                self._start(self._pending.pop())
            if self._pending:  # the nodes have less room than the queue was told of last
                return False
            with self.costs.part("queue"):
                suggested = self._queue.suggest(trial_id := f"trial-{next(self._numbers)}")
            if not isinstance(suggested, dict):
                return suggested is not None
            key = suggested["cell"]["key"]
            course = course_of(self._works[key], suggested["cell"]["epochs"], self._epoch_seconds)
            self._pending.append(Trial(trial_id, suggested, course, self._saved.get(key, 0)))

    def _at(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Do something so many seconds from now."""
        heapq.heappush(self._events, (self.clock.now + seconds, next(self._numbers), act, arguments))

    def _ask_to_stop(self, key: str, why: str) -> None:
        self._running[key].stop = why

    def _start(self, trial: Trial) -> None:
        trial.node, trial.began = self._free.pop(), self.clock.now
        self._running[trial.key] = trial
        with self.costs.part("watch"):
            self._watch.on_trial_start(self.steps, [], trial)
        trial.stop = trial.config["cell"]["stop"]
        self._go_on(trial, START_SECONDS)

    def _go_on(self, trial: Trial, seconds: float = 0.0) -> None:
        """The next epoch, or the end."""
        trial.epoch_began = self.clock.now
        if trial.stop:
            self._at(seconds + LEAVE_SECONDS, self._end, trial)
        elif trial.epoch < len(trial.course.curve):
            self._at(seconds + trial.course.seconds[trial.epoch], self._epoch, trial)
        elif trial.course.end == "failed":
            self._at(seconds, self._raise, trial)
        else:
            self._at(seconds + TAIL_SECONDS, self._end, trial)

    def _epoch(self, trial: Trial) -> None:
        if trial.gone:
            return
        metrics = trial.course.curve[trial.epoch]
        trial.epoch += 1
        self.epochs += 1
        self.usage.trained += metrics["epoch_seconds"]
        flat = {TIME: trial.epoch, **{f"{REPORT}/{name}": value for name, value in metrics.items()}}
        with self.costs.part("rule"):
            self._scheduler.on_trial_result(None, trial, flat)
        with self.costs.part("watch"):
            self._watch.on_trial_result(self.steps, [], trial, {REPORT: metrics})
        self._saved[trial.key] = trial.epoch
        self._go_on(trial)

    def _end(self, trial: Trial) -> None:
        """The train function has returned; its record comes as Ray brings it, in objects of its own."""
        if trial.gone:
            return
        status = {None: trial.course.end, "scheduler": "stopped", PAUSED: PAUSED}[trial.stop]
        with self.costs.part(OF_TRIALS):
            work, curve = self._works[trial.key], trial.course.curve[: trial.epoch]
            record = record_of(work, "interrupted" if status == PAUSED else status, curve)
            if status != PAUSED:
                write_json(work.payload["cell"].folder / "record.json", record)
            result = json.loads(json.dumps(record))
        trial.last_result = {FINAL: {"status": status, "result": result}}
        self._leave(trial)
        with self.costs.part("queue"):
            self._queue.on_trial_complete(trial.trial_id, {f"{FINAL}/status": status})
        with self.costs.part("watch"):
            self._watch.on_trial_complete(self.steps, [], trial)

    def _raise(self, trial: Trial) -> None:
        if not trial.gone:
            self._fail(trial, TrialFaultError(Fault("error", "RuntimeError: simulated")))

    def _fail(self, trial: Trial, error: BaseException) -> None:
        path = self._folder / f"{type(error).__name__}.pkl"
        path.write_bytes(ray.cloudpickle.dumps(error))
        trial.pickled_error_file = str(path)
        with self.costs.part("rule"):
            self._scheduler.on_trial_error(None, trial)
        with self.costs.part("queue"):
            self._queue.on_trial_complete(trial.trial_id, error=True)
        with self.costs.part("watch"):
            self._watch.on_trial_error(self.steps, [], trial)
        self._leave(trial)

    def _leave(self, trial: Trial) -> None:
        trial.gone = True
        self._running.pop(trial.key)
        self.usage.taken += self.clock.now - trial.began
        if trial.node in self._nodes.alive:
            self._free.append(trial.node)

    def _break_now_and_then(self) -> None:
        """Plan when the next of all nodes is lost."""
        self._at(self._dice.exponential(self._node_seconds / len(self._nodes.alive)), self._lose_node)

    def _lose_node(self) -> None:
        self._break_now_and_then()
        if len(self._nodes.alive) == 1:  # the driver's own
            return
        name = str(self._dice.choice([*self._nodes.alive]))
        resources = self._nodes.alive.pop(name)
        self.usage.failures += 1
        self._noticed_at[name] = self.clock.now + NOTICED_SECONDS
        self._free = [node for node in self._free if node != name]
        for trial in [trial for trial in self._running.values() if trial.node == name]:
            trial.gone = True
            self.usage.lost += self.clock.now - trial.epoch_began
            self._at(NOTICED_SECONDS, self._fail, trial, ray.exceptions.ActorDiedError())
        self._at(AWAY_SECONDS, self._return_node, name, resources)

    def _return_node(self, name: str, resources: dict[str, float]) -> None:
        self._nodes.alive[name] = resources
        self._free += [name] * self._gpus
        self._count_away(name)

    def _count_away(self, name: str) -> None:
        """Its slots were not there from when that was noticed until now."""
        self.usage.away += self._gpus * max(self.clock.now - self._noticed_at.pop(name), 0.0)
