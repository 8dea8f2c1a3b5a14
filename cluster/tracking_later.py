"""Small jobs done in order beside the program, which neither waits for them nor hears of their errors."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

log = logging.getLogger(__name__)


class Later:
    """A daemon thread that does jobs in order; it is started with the first."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], object]) -> None:
        """Do `job` after those before it; an error in it is logged."""
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="mlflow-prepare", daemon=True)
            self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait until all jobs given so far are done; False after `timeout` seconds."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._jobs.put(done.set)
        return done.wait(timeout)

    def _main(self) -> None:
        while True:
            job = self._jobs.get()
            with safely():
                job()


@contextlib.contextmanager
def safely() -> Iterator[None]:
    """Recording must never end a training: an error is logged, with its traceback, and that is all."""
    try:
        yield
    except Exception:
        log.exception("not recorded in MLflow")
