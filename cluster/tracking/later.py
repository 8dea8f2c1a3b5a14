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
        self._stopped = False
        self._given = self._done = 0

    @property
    def undone(self) -> int:
        """How many jobs are not done."""
        return self._given - self._done

    def do(self, job: Callable[[], object]) -> None:
        """Do `job` after those before it; an error in it is logged."""
        self._given += 1
        self._jobs.put(lambda: self._do(job))
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

    def stop(self, timeout: float) -> None:
        """End after the job that is being done, without those that wait; `undone` tells how many they are.

        A thread that still draws when Python ends makes it crash, so that job is waited for, up to `timeout` seconds.
        """
        self._stopped = True
        if self._thread is not None:
            self._jobs.put(lambda: None)
            self._thread.join(timeout)

    def _main(self) -> None:
        while not self._stopped:
            job = self._jobs.get()
            if not self._stopped:
                job()

    def _do(self, job: Callable[[], object]) -> None:
        with safely():
            job()
        self._done += 1


@contextlib.contextmanager
def safely() -> Iterator[None]:
    """Recording must never end a training: an error is logged, with its traceback, and that is all."""
    try:
        yield
    except Exception:
        log.exception("not recorded in MLflow")
