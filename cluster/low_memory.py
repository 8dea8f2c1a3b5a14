"""A process that Ray ends because its node lacks memory: Tune has to take it as the loss of one trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


@contextlib.contextmanager
def is_loss_of_one_trial() -> Iterator[None]:
    """While it lasts, Tune takes Ray's OutOfMemoryError for the RayActorError it is; else it ends the whole run.

    Ray's memory monitor ends the process of a trial, and the answer to its task is an error that Tune's actor manager
    does not know: it raises out of ``Tuner.fit``.
    """
    task_failed = RayActorManager._actor_task_failed

    def known(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        task_failed(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = known
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = task_failed
