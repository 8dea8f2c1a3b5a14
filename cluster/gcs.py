"""What the head of a cluster knows of it (Ray's GCS), asked without connecting as a driver."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from cluster.connection import listens
from cluster.errors import ClusterError

T = TypeVar("T")


def asked(address: str, question: Callable[[Any], T], seconds: float) -> T | None:
    """What the cluster at `host:port` answers to a question to Ray's `GcsClient`; None without an answer in `seconds`.

    Raises ClusterError where the cluster has another token than the one known here.
    """
    if not listens(address):
        return None
    answer: SimpleQueue[T | ClusterError | None] = SimpleQueue()
    # Ray tries for 40 seconds where something else listens.
    threading.Thread(target=lambda: answer.put(_answer(address, question)), daemon=True).start()
    try:
        told = answer.get(timeout=seconds)
    except Empty:
        return None
    if isinstance(told, ClusterError):
        raise told
    return told


def _answer(address: str, question: Callable[[Any], T]) -> T | ClusterError | None:
    import ray.exceptions

    raylet: Any = importlib.import_module("ray._raylet")  # compiled: its types are not to be seen
    try:
        return question(raylet.GcsClient(address=address))
    except ray.exceptions.AuthenticationError:
        return ClusterError(
            f"{address}: the cluster there has another token than the one known here; set RAY_AUTH_TOKEN_PATH to a "
            "file with its token"
        )
    except Exception:  # Ray has no one error for a cluster that does not answer
        return None
