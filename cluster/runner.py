"""Run a matrix's cells through Ray Tune: every cell once, in order, as many at once as there are slots."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster.budget import NO_BUDGET, Budget
from cluster.connection import Connection, quiet
from cluster.environment import variables
from cluster.errors import ClusterError
from cluster.guard import Guard
from cluster.hangs import Patience
from cluster.held import leftovers, release_groups, release_orphaned_groups
from cluster.lifeline import ClusterLostError, call_while
from cluster.low_memory import is_loss_of_one_trial
from cluster.mailbox import Job, start_mailbox
from cluster.nodes import Nodes
from cluster.queue import Queue
from cluster.resources import Resources
from cluster.retries import Retries
from cluster.scheduler import Scheduler
from cluster.trial import Trial
from cluster.watch import Watch
from cluster.work import Ended, Listener, Outcome, TrainFunction, Work

logger = logging.getLogger(__name__)

_SETTLE_SECONDS = 10.0

DEFAULT_RETRIES = Retries()
DEFAULT_PATIENCE = Patience()

# What Tune reads from the environment while it runs.
_TUNE_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A cell may end before its first epoch (all done already, diverged).
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's snapshots cost time and are never restored from: records and checkpoints are the train function's.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Asked only for messages that are not shown; without the cluster's head the question blocks for good.
    "TUNE_STATE_REFRESH_PERIOD": "86400",
}


def run_cells(
    works: Sequence[Work],
    train_function: TrainFunction,
    shared: Any,
    *,
    resources: Resources,
    scheduler: Scheduler,
    connection: Connection,
    storage: Path,
    listeners: Sequence[Listener] = (),
    metric: str = "val_mae",
    grace_seconds: float = 30.0,
    budget: Budget = NO_BUDGET,
    retries: Retries = DEFAULT_RETRIES,
    patience: Patience = DEFAULT_PATIENCE,
) -> Outcome:
    """Run every work with `train_function` until it has a result, and return when nothing of it runs any more.

    `shared` goes to the object store once and is read there without a copy by all trials of a node. `storage` is a
    directory every node sees; what Ray writes there is removed at the end. The scheduler compares `metric` of the
    reports, of which less is better. A failing cell ends with its traceback and the others go on; one that loses its
    process or its node, lacks memory or hangs (`patience`) is tried again within `retries`. Where all cells fail alike,
    or no node is left, or the cluster does not answer any more, the run ends with `Outcome.halted`.

    The first SIGINT or SIGTERM asks running cells to leave, waits up to `grace_seconds` and returns
    with `Outcome.interrupted`; a second one ends this process at once with 130 or 143. When the budget is spent running
    cells leave likewise, without haste, and `Outcome.budget` says so.

    Raises ClusterError before anything is started if one trial does not fit on the cluster.
    """
    if len({work.key for work in works}) != len(works):
        raise ClusterError("two cells have the same key: every cell is run once, so keys must differ")
    resources.check(connection.nodes)
    resources = resources.resolved(connection.nodes)
    slots = resources.slots(connection.nodes)
    began = time.monotonic()
    affordable = _affordable(works, scheduler, budget.cells_left)
    watch = Watch(affordable, listeners, budget, resources.workers * (resources.gpus_per_worker or 0.0), retries)
    watch.tell("matrix_started", affordable, slots)
    cluster_lost = False
    if affordable:
        rules = _Rules(scheduler, metric, patience, grace_seconds)
        try:
            with _scratch(storage) as scratch, quiet("ray.tune", "ray.train"):
                _run(watch, train_function, shared, resources, rules, connection, scratch)
        except ClusterLostError as lost:
            cluster_lost, watch.halted = True, str(lost)
        except Exception as error:  # of Tune's or of ours; what is finished is finished, and is reported
            logger.exception("Ray Tune has ended with an error")
            watch.halted = f"Ray Tune has ended with an error: {(str(error).strip() or repr(error)).splitlines()[-1]}"
    watch.close()
    left = tuple(work for work in works if watch.ended.get(work.key, Ended("interrupted")).status == "interrupted")
    reached = watch.budget_reached or (f"{budget.cells} cells" if len(affordable) < len(works) else None)
    signal_name, seconds = watch.interruption.signal_name, time.monotonic() - began
    outcome = Outcome(
        dict(watch.ended), left, signal_name, slots, seconds, reached, watch.spent, watch.halted, cluster_lost
    )
    watch.tell("matrix_ended", outcome)
    return outcome


def _affordable(works: Sequence[Work], scheduler: Scheduler, cells: int | None) -> list[Work]:
    """The cells that may be started: of a limited number first those that need not wait for others."""
    if cells is None:
        return list(works)
    return sorted(works, key=lambda work: scheduler.decision(work.key) == "pause")[:cells]


@dataclass(frozen=True)
class _Rules:
    """What decides over cells while they run."""

    scheduler: Scheduler
    metric: str
    patience: Patience
    grace_seconds: float


def _run(
    watch: Watch,
    train_function: TrainFunction,
    shared: Any,
    resources: Resources,
    rules: _Rules,
    connection: Connection,
    scratch: Path,
) -> None:
    job = Job(
        train_function=ray.put(train_function),
        shared=ray.put(shared),
        workers=resources.workers,
        cpus_per_worker=resources.cpus_per_worker,
        gpus_per_worker=resources.gpus_per_worker or 0.0,
        placement=resources.placement,
        storage=str(scratch),
    )
    name = f"mailbox-{uuid.uuid4().hex[:12]}"
    works, nodes = {work.key: work for work in watch.works}, Nodes()
    mailbox = start_mailbox(name, job, {key: work.payload for key, work in works.items()})
    queue = Queue(
        watch.works,
        resources.slots(nodes.resources),
        rules.scheduler.decision,
        watch.interruption.event,
        lambda: watch.suspicion.failing > 0,
        resources.double_bundle(nodes.resources),
    )
    guard = Guard(works, mailbox, queue, nodes, resources, rules.patience, watch)
    watch.begin(guard, queue, rules.scheduler)
    with (
        # Tune's own files are the driver's alone, and must not be lost where `storage` is full.
        tempfile.TemporaryDirectory(prefix="altformer-", ignore_cleanup_errors=True) as own,
        variables({**_TUNE_ENVIRONMENT, "TUNE_MAX_PENDING_TRIALS_PG": str(max(queue.slots, 1))}),
        is_loss_of_one_trial(),
        nodes.watched(),
        watch.interruption.handled(mailbox, rules.grace_seconds),
    ):
        try:
            call_while(connection.answers, _tuner(name, mailbox, resources, rules, queue, watch, own).fit)
        finally:
            watch.interruption.over()
            if not isinstance(sys.exception(), ClusterLostError):
                ray.kill(mailbox)
                _settle(resources)


def _tuner(
    name: str, mailbox: Any, resources: Resources, rules: _Rules, queue: Queue, watch: Watch, folder: str
) -> tune.Tuner:
    return tune.Tuner(
        Trial,
        param_space={"mailbox": name, "bundle": resources.bundle()},
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the queue has come to its end
            search_alg=queue,
            scheduler=rules.scheduler.build(rules.metric, lambda key, why: ray.get(mailbox.stop.remote(key, why))),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder,
            callbacks=[watch],
            stop=_WhenOver(watch),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


class _WhenOver(tune.Stopper):  # type: ignore[misc]
    """Ends the trials that still wait for room when the run is to end."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never ends one by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether nothing else is left."""
        return self._watch.is_over()

    def __reduce__(self) -> tuple[type[tune.Stopper], tuple[()]]:
        # Tune pickles it into a file of its own, from which we never restore.
        return tune.stopper.NoopStopper, ()


@contextlib.contextmanager
def _scratch(storage: Path) -> Iterator[Path]:
    """A folder for what Ray writes, below `storage`; both are gone afterwards, unless something else is there."""
    new = not storage.exists()
    storage.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".ray-", dir=storage.resolve()))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # a train function has put something there
                storage.rmdir()


def _settle(resources: Resources) -> None:
    """Wait until Ray has taken back what ended trials held, and take the rest."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while leftovers():
        if resources.workers > 1:
            release_orphaned_groups()
        if time.monotonic() > deadline:
            logger.warning("still held after the matrix, now released: %s", "; ".join(leftovers()))
            release_groups()
            return
        time.sleep(0.05)
