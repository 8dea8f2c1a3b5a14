"""Notices that the head of the cluster is gone, before Ray ends this process without a word, as it does in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 1.0

# A head that is only restarted (as with an external store) is there again before that.
LOST_SECONDS = 20.0

TUNE_THREAD = "tune"


class ClusterLostError(Exception):
    """The head of the cluster does not answer any more; Ray must not be used again in this process."""

    def __init__(self) -> None:
        super().__init__(
            "the cluster's head does not answer any more; what is finished is kept, and on a new cluster the same "
            "command goes on from the last checkpoints"
        )


def call_while(answers: Callable[[], bool], function: Callable[[], object], lost_seconds: float = LOST_SECONDS) -> None:
    """Call a function that uses the cluster, in a thread, and wait for it as long as the cluster's head `answers`.

    Without a head many of Ray's calls never return, nor can they be interrupted: so they are left to themselves.
    Raises what the function raises, and ClusterLostError; then the function may still run, and the process should end.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True, name=TUNE_THREAD)
    thread.start()
    last = time.monotonic()
    while thread.is_alive():
        thread.join(_LOOK_SECONDS)
        if answers():
            last = time.monotonic()
        elif time.monotonic() - last > lost_seconds:
            raise ClusterLostError
    if raised:
        raise raised[0] if answers() else ClusterLostError() from raised[0]
