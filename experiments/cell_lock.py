"""A cell's lock: matrices share cells, and each is trained by one process at a time."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

LOCK = ".lock"  # a cell's file

_POLL_SECONDS = 1.0

log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def only_trainer(folder: Path, context: Any) -> Iterator[None]:
    """Hold the cell's lock, which the system frees when its holder dies; called on all ranks, of which rank 0 holds it.

    While another process has it this one waits, with signs of life: an epoch there may take longer than a rank waits
    for another, so that all are told every second that there is nothing yet.
    """
    with ExitStack() as held:
        file = None
        if context.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / LOCK).open("w"))
        waited = False
        while not told_by_rank_0(context, file is not None and _locked(file)):
            if not waited:
                log.info("waits for another process that trains this cell")
            waited = True
            context.alive()
            time.sleep(_POLL_SECONDS)
        yield


def told_by_rank_0(context: Any, value: T) -> T:
    """Rank 0's value, on all ranks."""
    if context.world_size == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, 0, device=context.device)
    return box[0]


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
