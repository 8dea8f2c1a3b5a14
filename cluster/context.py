"""A rank's side of a trial: the context its train function is given, and its process's threads and memory."""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING, Any

import ray

from cluster.errors import ClusterError
from cluster.mailbox import Job

if TYPE_CHECKING:
    import torch

# Of a rank that says it is at work.
_ALIVE_SECONDS = 1.0


class Context:
    """What the train function sees of the cluster; see cluster.work.TrialContext."""

    def __init__(
        self, mailbox: Any, slot: str, number: int, rank: int, world_size: int, gpus: float, stop: str | None = None
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self._mailbox = mailbox
        self._slot = slot
        self._number = number
        self._gpus = gpus
        self._epochs = 0
        self._reason = stop
        self._alive_at = time.monotonic()
        self._answer: Any = None
        self._urgent: str | None = None

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
        self._reason = ray.get(self._mailbox.post.remote(self._slot, self._number, self._epochs, own))

    def should_stop(self) -> str | None:
        """The reason to leave, as decided at the last report; before the first one, when the cell was handed out."""
        return self._reason

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Say that work goes on; which step is done is of no interest here."""
        self.alive()

    def alive(self) -> None:
        """Move, as far as the search for hangs is concerned; at most one call a second goes out, and one is answered.

        The answer to the call before says whether the cell is to leave at once.
        """
        if (now := time.monotonic()) - self._alive_at < _ALIVE_SECONDS:
            return
        self._alive_at = now
        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return
            self._urgent = self._urgent or ray.get(self._answer)
        self._answer = self._mailbox.alive.remote(self._slot, self._number)

    def leave_now(self) -> bool:
        """Whether the cell was asked to leave before its epoch's end. Ranks of a group leave after it, together."""
        if self._urgent and self.world_size == 1:
            self._reason = self._urgent
            return True
        return False


def prepare_process(job: Job, gpus: float) -> None:
    """Threads and memory as the trial was given, before its first tensor operation, in the thread that computes.

    `gpus` is what the process holds, which may be more than the job says where a cell had too little memory.

    Threads within an operation are a property of the calling thread; those between operations can be set only once.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(job.cpus_per_worker)
    import torch

    torch.set_num_threads(job.cpus_per_worker)
    if torch.get_num_interop_threads() != job.cpus_per_worker:
        torch.set_num_interop_threads(job.cpus_per_worker)
    if 0 < gpus < 1 and torch.cuda.is_available():
        # Ray's fraction is bookkeeping only.
        torch.cuda.set_per_process_memory_fraction(gpus)


def release_memory(job: Job) -> None:
    """Give a GPU's cached memory back to whoever shares it, between two cells of a process."""
    if job.gpus_per_worker:
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
