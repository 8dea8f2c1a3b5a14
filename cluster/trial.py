"""One attempt at a cell: a Tune trainable that owns a Ray Train run in a thread and waits for it to leave.

A trial with one worker is Train's local mode: the train function runs in the trial's own process, which Tune reuses
for the next cell with its imports, its data and its CUDA context. With more workers it is a worker group of its own
with torch DDP. Either way the epochs go through the mailbox, and the trial ends only when `fit()` has returned.
"""

from __future__ import annotations

import gc
import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from cluster.errors import ClusterError
from cluster.mailbox import Job, Message
from cluster.scheduler import REPORT
from cluster.work import STATUS_OF_REASON, STATUSES

if TYPE_CHECKING:
    import torch

#: Where a trial's last result carries how its cell ended.
FINAL = "final"

# How long a train function that was told to stop may take to leave before its workers are killed.
_LEAVE_SECONDS = 60.0
_KILLED_SECONDS = 15.0


class TrainFunctionError(Exception):
    """The train function raised; the text is its traceback."""


class Context:
    """The train function's side of the mailbox; see cluster.work.TrialContext."""

    def __init__(self, mailbox: Any, key: str, attempt: int, rank: int, world_size: int, gpus: float) -> None:
        self.rank = rank
        self.world_size = world_size
        self._mailbox = mailbox
        self._key = key
        self._attempt = attempt
        self._gpus = gpus
        self._epochs = 0
        self._reason: str | None = None

    @property
    def device(self) -> torch.device:
        """The GPU given to this rank, else the CPU; raises ClusterError if torch does not see the GPU it was given."""
        import torch

        if self._gpus == 0:
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise ClusterError(
                f"this trial was given {self._gpus:g} GPU, but torch {torch.__version__} sees none on this node"
            )
        if self.world_size == 1:
            return torch.device("cuda", 0)
        import ray.train.torch

        device: torch.device = ray.train.torch.get_device()
        return device

    def report(self, metrics: dict[str, float | int]) -> None:
        """Hand over an epoch; returns with the same decision on every rank."""
        self._epochs += 1
        own = dict(metrics) if self.rank == 0 else None
        self._reason = ray.get(self._mailbox.post.remote(self._key, self._attempt, self._epochs, own))

    def should_stop(self) -> str | None:
        """The reason to leave, as decided at the last report."""
        return self._reason


class Trial(tune.Trainable):  # type: ignore[misc]
    """Tune's view of one cell after another in one process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start on the first cell; `config` carries the mailbox's name and the cell."""
        self._mailbox_name: str = config["mailbox"]
        self._mailbox = ray.get_actor(self._mailbox_name)
        self._thread: threading.Thread | None = None
        self._job: Job | None = None
        self._start(config["cell"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to another cell in this process; False if the one before does not leave."""
        if not self._leave():
            return False
        self._start(new_config["cell"])
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch, or the end; raises TrainFunctionError with the train function's traceback."""
        if self._thread is None:
            return _ended("interrupted", None)
        message: Message = ray.get(self._mailbox.take.remote(self._key))
        if message.kind == "epoch":
            return {REPORT: message.metrics}
        if message.kind == "abandoned":
            self._leave_seconds = 0.0
            return _ended("interrupted", None)
        self._leave()
        if message.error is not None:
            raise TrainFunctionError(message.error)
        return _ended(message.reason, message.result)

    def cleanup(self) -> None:
        """Wait until nothing of this trial runs any more."""
        self._leave()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: train functions keep their own checkpoints."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: train functions resume from their own checkpoints."""

    def _start(self, cell: dict[str, Any]) -> None:
        self._key: str = cell["key"]
        self._leave_seconds = _LEAVE_SECONDS
        self._thread = None
        [job], payload, attempt, reason = ray.get(self._mailbox.open.remote(self._key))
        if reason is not None:
            return
        if self._job is None:
            # Once per process, so that what a train function derives from `shared` can be kept from cell to cell.
            self._job = job
            self._function, self._shared = ray.get([job.train_function, job.shared])
        arguments = (payload, attempt, cell["name"])
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True, name=f"cell {self._key}")
        self._thread.start()

    def _run(self, payload: dict[str, Any], attempt: int, name: str) -> None:
        assert self._job is not None
        result, error = None, None
        try:
            if self._job.workers == 1:
                context = Context(self._mailbox, self._key, attempt, 0, 1, self._job.gpus_per_worker)
                result = _fit_local(self._job, self._function, payload, self._shared, context)
            else:
                result = _fit_group(self._job, self._mailbox_name, self._key, attempt, name)
            if not isinstance(result, dict):
                error = f"the train function returned {type(result).__name__}, not a dict"
        except BaseException as caught:
            error = _text(caught)
        _release_gpu(self._job)
        ray.get(self._mailbox.end.remote(self._key, attempt, result, error))

    def _leave(self) -> bool:
        """Tell the train function to leave, wait, then kill its workers; True if it has left."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return True
        ray.get(self._mailbox.stop.remote(self._key, "interrupted"))
        thread.join(self._leave_seconds)
        if thread.is_alive():
            for member in ray.get(self._mailbox.members.remote(self._key)):
                ray.kill(member)
            thread.join(_KILLED_SECONDS if self._job is not None and self._job.workers > 1 else 0)
        return not thread.is_alive()


def _ended(reason: str | None, result: dict[str, Any] | None) -> dict[str, Any]:
    status = (result or {}).get("status")
    if status not in STATUSES:
        status = STATUS_OF_REASON.get(reason or "", "done")
    return {tune.result.DONE: True, FINAL: {"status": status, "result": result}}


def _fit_local(job: Job, function: Any, payload: dict[str, Any], shared: Any, context: Context) -> Any:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop() -> Any:
        _prepare_process(job)
        return function(payload, shared, context)

    return TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=0)).fit().return_value


def _fit_group(job: Job, mailbox: str, key: str, attempt: int, name: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    each = {"CPU": float(job.cpus_per_worker)}
    if job.gpus_per_worker:
        each["GPU"] = job.gpus_per_worker
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[:60]
    trainer = TorchTrainer(
        _group_loop,
        train_loop_config={"mailbox": mailbox, "key": key, "attempt": attempt},
        scaling_config=ScalingConfig(
            num_workers=job.workers,
            use_gpu=job.gpus_per_worker > 0,
            resources_per_worker=each,
            placement_strategy=job.placement,
        ),
        run_config=RunConfig(
            name=f"{readable}-{key[:12]}-{attempt}",
            storage_path=str(Path(job.storage) / "train"),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    return trainer.fit().return_value


def _group_loop(config: dict[str, Any]) -> Any:
    """Runs on every rank of a worker group."""
    import ray.train

    key, attempt = config["key"], config["attempt"]
    mailbox = ray.get_actor(config["mailbox"])
    [job], payload = ray.get(mailbox.join.remote(key, attempt, ray.get_runtime_context().current_actor))
    train = ray.train.get_context()
    rank, world_size = train.get_world_rank(), train.get_world_size()
    context = Context(mailbox, key, attempt, rank, world_size, job.gpus_per_worker)
    _prepare_process(job)
    function, shared = ray.get([job.train_function, job.shared])
    return function(payload, shared, context)


def _prepare_process(job: Job) -> None:
    """Threads and memory as the trial was given, before its first tensor operation; in the thread that computes.

    Intra-op threads are a property of the calling thread, and those between operations can be set only once.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(job.cpus_per_worker)
    import torch

    torch.set_num_threads(job.cpus_per_worker)
    if torch.get_num_interop_threads() != job.cpus_per_worker:
        torch.set_num_interop_threads(job.cpus_per_worker)
    if 0 < job.gpus_per_worker < 1 and torch.cuda.is_available():
        # Ray's fraction is bookkeeping only.
        torch.cuda.set_per_process_memory_fraction(job.gpus_per_worker)


def _release_gpu(job: Job | None) -> None:
    """Give cached memory back to whoever shares the GPU, before the next cell of this process starts."""
    if job is not None and job.gpus_per_worker and job.workers == 1:
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _text(caught: BaseException) -> str:
    from ray.train import TrainingFailedError

    if isinstance(caught, TrainingFailedError):
        return str(caught)  # carries the workers' tracebacks; our own frames say nothing
    return "".join(traceback.format_exception(caught)).rstrip()
