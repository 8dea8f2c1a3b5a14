"""Run a matrix's cells through Ray Tune: every cell once, in order, as many at once as there are slots."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster.budget import NO_BUDGET, Budget
from cluster.connection import Connection, leftovers, quiet, release_groups
from cluster.errors import ClusterError
from cluster.mailbox import Job, start_mailbox
from cluster.queue import Queue
from cluster.resources import Resources
from cluster.scheduler import Scheduler
from cluster.trial import Trial
from cluster.watch import Watch
from cluster.work import Ended, Listener, Outcome, TrainFunction, Work

logger = logging.getLogger(__name__)

_SETTLE_SECONDS = 10.0

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
    mode: str = "min",
    grace_seconds: float = 30.0,
    budget: Budget = NO_BUDGET,
) -> Outcome:
    """Run every work once with `train_function` and return when nothing of it runs any more.

    `shared` goes to the object store once and is read there without a copy by all trials of a node. `storage` is a
    directory every node sees; what Ray writes there is removed at the end. The scheduler compares `metric` (`mode`
    min or max) of the reports. A failing cell ends with its traceback and the others go on.

    The first SIGINT or SIGTERM asks running cells to leave after their epoch, waits up to `grace_seconds` and returns
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
    watch = Watch(affordable, listeners, budget, resources.workers * (resources.gpus_per_worker or 0.0))
    watch.tell("matrix_started", affordable, slots)
    if affordable:
        new = not storage.exists()
        storage.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".ray-", dir=storage.resolve()))
        try:
            environment = {**_TUNE_ENVIRONMENT, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
            with _environment(environment), quiet("ray.tune", "ray.train"):
                _run(watch, train_function, shared, resources, slots, scheduler, metric, mode, scratch, grace_seconds)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if new:
                with contextlib.suppress(OSError):  # a train function has put something there
                    storage.rmdir()
    watch.close()
    left = tuple(work for work in works if watch.ended.get(work.key, Ended("interrupted")).status == "interrupted")
    reached = watch.budget_reached or (f"{budget.cells} cells" if len(affordable) < len(works) else None)
    signal_name, seconds = watch.interruption.signal_name, time.monotonic() - began
    outcome = Outcome(watch.ended, left, signal_name, slots, seconds, reached, watch.spent)
    watch.tell("matrix_ended", outcome)
    return outcome


def _affordable(works: Sequence[Work], scheduler: Scheduler, cells: int | None) -> list[Work]:
    """The cells that may be started: of a limited number first those that need not wait for others."""
    if cells is None:
        return list(works)
    return sorted(works, key=lambda work: scheduler.decision(work.key) == "pause")[:cells]


def _run(
    watch: Watch,
    train_function: TrainFunction,
    shared: Any,
    resources: Resources,
    slots: int,
    scheduler: Scheduler,
    metric: str,
    mode: str,
    scratch: Path,
    grace_seconds: float,
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
    mailbox = watch.mailbox = start_mailbox(name, job, {work.key: work.payload for work in watch.works})
    tuner = tune.Tuner(
        Trial,
        param_space={"mailbox": name, "bundle": _trial_bundle(resources)},
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the queue has come to its end
            search_alg=Queue(watch.works, slots, scheduler.decision, watch.interruption.event),
            scheduler=scheduler.build(metric, mode, lambda key, why: ray.get(mailbox.stop.remote(key, why))),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            callbacks=[watch],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        with watch.interruption.handled(mailbox, grace_seconds):
            tuner.fit()
    finally:
        watch.mailbox = None
        ray.kill(mailbox)
        _settle()


def _trial_bundle(resources: Resources) -> dict[str, float]:
    if resources.workers == 1:
        return {"CPU": float(resources.cpus_per_worker), "GPU": resources.gpus_per_worker or 0.0}
    # The workers hold the CPUs and GPUs in a group of their own. Tune wants something for the trial's own process:
    # one byte, since even 0.01 CPU would keep two workers from fitting on two CPUs.
    return {"memory": 1.0}


def _settle() -> None:
    """Wait until Ray has taken back what ended trials held, and take the rest."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while leftovers():
        if time.monotonic() > deadline:
            logger.warning("still held after the matrix, now released: %s", "; ".join(leftovers()))
            release_groups()
            return
        time.sleep(0.05)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
