"""`altformer` with a clock in every call of its MLflow tracker, and short waits for MLflow at its end.

python -m tests.faults.timed_tracker FILE COMMAND ...    # writes {"seconds": in all calls, "calls": how many} to FILE
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from cluster.tracking.tracker import Tracker
from experiments.cli import main

WHILE_TRAINING = ("matrix_started", "cell_started", "cell_epoch", "cell_ended", "cell_retried", "matrix_ended")
LAST_WAIT = 3.0  # seconds, instead of a minute: here MLflow is known to need longer
spent: list[float] = []


def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def timed(*arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **more)
        finally:
            spent.append(time.perf_counter() - began)

    return timed


def shortened(call: Callable[..., bool]) -> Callable[..., bool]:
    return wraps(call)(lambda self, timeout=LAST_WAIT: call(self, LAST_WAIT))


if __name__ == "__main__":
    for name in WHILE_TRAINING:
        setattr(Tracker, name, clocked(getattr(Tracker, name)))
    for name in ("flush", "close"):
        setattr(Tracker, name, shortened(getattr(Tracker, name)))
    file, *arguments = sys.argv[1:]
    try:
        code = main(arguments)
    finally:
        Path(file).write_text(json.dumps({"seconds": sum(spent), "calls": len(spent)}))
    sys.exit(code)
