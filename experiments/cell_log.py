"""A cell's ``log.txt``: one line for each thing that happens to its training, appended by every attempt at it.

2026-11-25T03:40:00+00:00 INFO started (pid 123 on host, attempt new)
2026-11-25T03:40:07+00:00 INFO epoch 1
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cluster.redaction import redact

LOG = "log.txt"  # a cell's file

log = logging.getLogger(__name__)


@contextlib.contextmanager
def cell_log(folder: Path) -> Iterator[None]:
    """Within it, what this thread logs by the loggers of altformer and experiments goes to the cell's log too."""
    handler = _LogFile(folder / LOG)
    loggers = [logging.getLogger(name) for name in ("altformer", "experiments")]
    for logger in loggers:
        if logger.level == logging.NOTSET:  # and stays so, since cells may train in several threads
            logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def log_start(folder: Path) -> None:
    """Say who trains the cell, and whether it is the first attempt."""
    again = (folder / "checkpoints").is_dir() or (folder / "record.json").is_file()
    log.info("started (pid %d on %s, attempt %s)", os.getpid(), socket.gethostname(), "again" if again else "new")


@contextlib.contextmanager
def end_logged() -> Iterator[None]:
    """Say what ends the training within, if an exception does."""
    try:
        yield
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        log.error("ended: failed (%s: %s)", type(error).__name__, said)
        raise
    except BaseException as error:
        log.info("ended: interrupted (%s)", type(error).__name__)
        raise


class _LogFile(logging.Handler):
    """Appends the lines of the thread that made it; what cannot be written whole, on a full disk, is left out."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:
            return
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        line = f"{time} {record.levelname} {' '.join(redact(record.getMessage()).splitlines())}\n".encode()
        # Opened for each line, of which an epoch has one: the folder may go and come while the cell trains.
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if file.write(line) < len(line):
                file.truncate(before)
