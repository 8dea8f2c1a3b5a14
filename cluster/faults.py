"""What kind of fault ended an attempt at a cell, from what was raised where: in a rank, in Ray Train, or in Ray."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any

from cluster.work import Fault, FaultKind

_FULL = (errno.ENOSPC, errno.EDQUOT)

# What torch, CUDA and the system say where no exception of its own says that memory was missing.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|low on memory|_ALLOC_FAILED|OutOfMemory", re.IGNORECASE
)

# A rank whose partner has gone fails in the next collective: the partner is the cause.
_PARTNER_GONE = re.compile(
    r"gloo.*(?:connection|closed|reset|peer|read error)|connection (?:closed|reset) by peer|"
    r"NCCL.*(?:remote|peer|aborted)",
    re.IGNORECASE | re.DOTALL,
)
_NODE_GONE = re.compile(
    r"node (?:has )?died|node was (?:terminated|drained|preempted|dead)|its node has died|NODE_DIED|marked dead|"
    r"node_id.{0,80}dead|preempted",
    re.IGNORECASE,
)

# Of the text of a fault, what differs between two cells that fail alike: addresses, counts, process ids.
_VARIES = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d+(?:\.\d+)?", re.IGNORECASE)


def kind_of_raised(error: BaseException) -> FaultKind:
    """What an exception of the train function says, seen where it was raised."""
    for each in _chain(error):
        if isinstance(each, MemoryError) or type(each).__name__ == "OutOfMemoryError":
            return "memory"
        if isinstance(each, OSError) and each.errno in _FULL:
            return "disk"
    if isinstance(error, RuntimeError):  # torch's distributed errors are these, too
        if _NO_MEMORY.search(str(error)):
            return "memory"
        if _PARTNER_GONE.search(str(error)):
            return "died"
    return "error"


def kind_of_run(error: BaseException) -> FaultKind:
    """What ended a Train run: a worker of the group that has died, if any has, else what one of them raised."""
    failures: dict[int, Any] = getattr(error, "worker_failures", None) or {}
    found = [kind_of_lost(failure) for failure in failures.values()]
    lost = next((kind for kind in [*found, kind_of_lost(error)] if kind != "error"), None)
    return lost or kind_of_raised(error)


def kind_of_lost(error: object) -> FaultKind:
    """What Ray says of a process that has gone; `error` where it was not a process that went."""
    import ray

    causes = list(_chain(error)) if isinstance(error, BaseException) else [error]
    text = "\n".join(map(str, causes))
    if any(isinstance(each, ray.exceptions.OutOfMemoryError) for each in causes) or "low on memory" in text:
        return "memory"
    if any(isinstance(each, ray.exceptions.NodeDiedError) for each in causes) or _NODE_GONE.search(text):
        return "node"
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError)
    return "died" if any(isinstance(each, lost) for each in causes) else "error"


def signature(fault: Fault) -> str:
    """Equal for faults that have one cause, as far as can be told: the kind, and the last line without its numbers."""
    if fault.kind in ("died", "node", "hang"):
        return fault.kind
    return f"{fault.kind}: {_VARIES.sub('#', fault.summary)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from; also what Ray and Ray Train wrap."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__, getattr(each, "cause", None)]
            waiting += [getattr(each, "controller_failure", None), getattr(each, "_base_exc", None)]
            waiting += [getattr(each, "health_check_failure", None)]
