"""A cell's lock: matrices share cells, and each is trained by one process at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, TypeVar

from altformer.errors import UserError
from altformer.files import said_when_full
from cluster.file_lock import open_locked

LOCK = ".lock"  # a cell's file
PATIENCE = 1.0  # seconds in which a process that is being ended gives its lock back

_POLL_SECONDS = 1.0

log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def only_trainer(folder: Path, context: Any) -> Iterator[bool]:
    """Hold the cell's lock, which the system frees when its holder dies; called on all ranks, of which rank 0 holds it.

    While another process has it this one waits, with signs of life: an epoch there may take longer than a rank waits
    for another, so that all are told every second that there is nothing yet. Gives False, without the lock, when the
    context has a single worker leave meanwhile. DiskFullError where there is no room for the cell's folder.
    """
    file, waited = None, False
    while not told_by_rank_0(context, context.rank == 0 and (file := _opened(folder)) is not None):
        if not waited:
            log.info("waits for another process that trains this cell")
        waited = True
        context.alive()
        if context.world_size == 1 and context.leave_now():
            yield False
            return
        time.sleep(_POLL_SECONDS)
    with file or nullcontext():
        yield True


@contextmanager
def lock_at_once(folder: Path) -> Iterator[bool]:
    """Hold the cell's lock, unless another process keeps it for longer than the end of a process takes: then False."""
    until = time.monotonic() + PATIENCE
    while (file := _opened(folder)) is None and time.monotonic() < until:
        time.sleep(0.05)
    with file or nullcontext():
        yield file is not None


def refuse_trained(folder: Path) -> None:
    """UserError when another process trains the cell now."""
    if not folder.is_dir():
        return
    with lock_at_once(folder) as is_free:
        if not is_free:
            raise UserError(
                f"{folder}: another process trains this very run now, so --again cannot; "
                "wait for it (without --again its result is taken), or end it"
            )


def told_by_rank_0(context: Any, value: T) -> T:
    """Rank 0's value, on all ranks."""
    if context.world_size == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, 0, device=context.device)
    return box[0]


def _opened(folder: Path) -> IO[bytes] | None:
    """The file of the cell's lock, held; None when another process has it or is just removing the folder."""
    with said_when_full(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return open_locked(folder / LOCK)
        except FileNotFoundError:
            return None
