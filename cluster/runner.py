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
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.util import remove_placement_group

from cluster.connection import Connection, leftovers, quiet, release_groups
from cluster.errors import ClusterError
from cluster.interruption import Interruption
from cluster.mailbox import Job, start_mailbox
from cluster.resources import Resources
from cluster.scheduler import REPORT, AshaScheduler, NoScheduler
from cluster.trial import FINAL, TrainFunctionError, Trial
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
    scheduler: NoScheduler | AshaScheduler,
    connection: Connection,
    storage: Path,
    listeners: Sequence[Listener] = (),
    metric: str = "val_mae",
    mode: str = "min",
    grace_seconds: float = 30.0,
) -> Outcome:
    """Run every work once with `train_function` and return when nothing of it runs any more.

    `shared` goes to the object store once and is read there without a copy by all trials of a node. `storage` is a
    directory every node sees; what Ray writes there is removed at the end. The scheduler compares `metric` (`mode`
    min or max) of the reports. A failing cell ends with its traceback and the others go on.

    The first SIGINT or SIGTERM asks running cells to leave after their epoch, waits up to `grace_seconds` and returns
    with `Outcome.interrupted`; a second one ends this process at once with 130 or 143.

    Raises ClusterError before anything is started if one trial does not fit on the cluster.
    """
    if len({work.key for work in works}) != len(works):
        raise ClusterError("two cells have the same key: every cell is run once, so keys must differ")
    resources.check(connection.nodes)
    resources = resources.resolved(connection.nodes)
    slots = resources.slots(connection.nodes)
    began = time.monotonic()
    watch = _Watch(works, listeners)
    watch.tell("matrix_started", works, slots)
    if works:
        new = not storage.exists()
        storage.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".ray-", dir=storage.resolve()))
        try:
            with _environment(_TUNE_ENVIRONMENT), quiet("ray.tune", "ray.train"):
                _run(watch, train_function, shared, resources, slots, scheduler, metric, mode, scratch, grace_seconds)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if new:
                with contextlib.suppress(OSError):  # a train function has put something there
                    storage.rmdir()
    left = tuple(work for work in works if watch.ended.get(work.key, Ended("interrupted")).status == "interrupted")
    outcome = Outcome(watch.ended, left, watch.interruption.signal_name, slots, time.monotonic() - began)
    watch.tell("matrix_ended", outcome)
    return outcome


def _run(
    watch: _Watch,
    train_function: TrainFunction,
    shared: Any,
    resources: Resources,
    slots: int,
    scheduler: NoScheduler | AshaScheduler,
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
    cells = [{"key": work.key, "name": work.name, "epochs": work.epochs} for work in watch.works]
    tuner = tune.Tuner(
        Trial,
        param_space={"mailbox": name, "bundle": _trial_bundle(resources), "cell": tune.grid_search(cells)},
        tune_config=tune.TuneConfig(
            search_alg=_InOrder(slots, watch.interruption),
            scheduler=scheduler.build(metric, mode, lambda key: ray.get(mailbox.stop.remote(key, "scheduler"))),
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


class _InOrder(BasicVariantGenerator):  # type: ignore[misc]
    """Gives out the cells in order, at most `slots` at once, and none after an interruption."""

    def __init__(self, slots: int, interruption: Interruption) -> None:
        super().__init__(max_concurrent=slots)
        self._interruption = interruption

    def next_trial(self) -> Any:
        """The next cell, or None."""
        if self._interruption.event.is_set():
            self.set_finished()
            return None
        return super().next_trial()

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Nothing: we never restore."""

    def __reduce__(self) -> tuple[type[BasicVariantGenerator], tuple[()]]:
        return BasicVariantGenerator, ()


class _Watch(tune.Callback):  # type: ignore[misc]
    """Tune's callback: keeps how cells ended and tells the listeners."""

    def __init__(self, works: Sequence[Work], listeners: Sequence[Listener]) -> None:
        self.works = tuple(works)
        self.ended: dict[str, Ended] = {}
        self.interruption = Interruption()
        self.mailbox: Any = None
        self._by_key = {work.key: work for work in works}
        self._listeners = tuple(listeners)
        self._broken: set[int] = set()
        self._began: dict[str, float] = {}
        self._told_interrupted = False

    def tell(self, method: str, *arguments: Any) -> None:
        """Call all listeners; one that raises is reported once and never stops the run."""
        for listener in self._listeners:
            try:
                getattr(listener, method)(*arguments)
            except Exception:
                if id(listener) not in self._broken:
                    self._broken.add(id(listener))
                    logger.exception("%s failed in %s; the run goes on", type(listener).__name__, method)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tell of an interruption from the main thread."""
        if self.interruption.event.is_set() and not self._told_interrupted:
            self._told_interrupted = True
            self.tell("interrupted", self.interruption.signal_name, self.interruption.grace_seconds)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell has its process."""
        work = self._by_key[trial.config["cell"]["key"]]
        self._began[work.key] = time.monotonic()
        self.tell("cell_started", work)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch has been reported."""
        if REPORT in result:
            self.tell("cell_epoch", self._by_key[trial.config["cell"]["key"]], result[REPORT])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has returned."""
        final = (trial.last_result or {}).get(FINAL) or {"status": "interrupted", "result": None}
        self._end(trial, final["status"], final["result"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A train function has raised, or the trial's process has died."""
        error = _error_of(trial)
        if isinstance(error, TrainFunctionError):
            self._end(trial, "failed", None, str(error))
            return
        self._release(trial.config["cell"]["key"])
        if self.interruption.event.is_set():
            self._end(trial, "interrupted", None, None)
        else:
            self._end(trial, "failed", None, str(error))

    def _release(self, key: str) -> None:
        """Give back what a trial's workers held whose process has died, and with it whoever would have done so."""
        with contextlib.suppress(ray.exceptions.RayError):  # else at the end of the matrix
            for group in ray.get(self.mailbox.groups.remote(key), timeout=10):
                remove_placement_group(group)

    def _end(self, trial: Any, status: str, result: dict[str, Any] | None, error: str | None) -> None:
        work = self._by_key[trial.config["cell"]["key"]]
        seconds = time.monotonic() - self._began.get(work.key, time.monotonic())
        self.ended[work.key] = Ended(status, result, error, seconds)
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
