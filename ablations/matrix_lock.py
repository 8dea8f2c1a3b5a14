"""Only one process runs a matrix: the lock of its folder, and who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from altformer.errors import UserError
from cluster.errors import ClusterError
from cluster.file_lock import lock_file, open_locked

LOCK = ".lock"
PATIENCE = 0.5  # seconds: who only looks holds the lock for a moment


@dataclass(frozen=True)
class Holder:
    """The process that runs a matrix, as it has said of itself when it took the lock; None where it has not yet."""

    pid: int | None = None
    host: str | None = None
    since: float | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "it has not said which"
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the matrix's lock; UserError when another process has it (it is freed by the system when that dies)."""
    until = time.monotonic() + PATIENCE
    while (file := _opened(folder)) is None:
        if time.monotonic() > until:
            raise UserError(
                f"{folder}: this matrix is being run by another process ({_read(folder)}); wait for it, "
                "`altformer status` shows how far it is, or end it"
            )
        time.sleep(0.05)
    with file:
        with contextlib.suppress(OSError):  # a full disk; who looks then learns no more than that it is held
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.time()}).encode())
        yield


def refuse_running(folders: Iterable[Path]) -> None:
    """UserError, before anything is started for it, where another process runs one of these matrices."""
    for folder in folders:
        if holder(folder) is not None:
            with only_writer(folder):  # it was somebody who only looked
                pass


def holder(folder: Path) -> Holder | None:
    """Who runs the matrix now, or None. The lock is taken for a moment to find out, and the file left as it is."""
    try:
        with (folder / LOCK).open("r+b") as file:
            return None if lock_file(file, folder / LOCK) else _read(folder)
    except (OSError, ClusterError):
        return None  # never run, or on a file system that cannot be read or has no locks


def _opened(folder: Path) -> IO[bytes] | None:
    try:
        return open_locked(folder / LOCK)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def _read(folder: Path) -> Holder:
    try:
        own = json.loads((folder / LOCK).read_text())
        return Holder(int(own["pid"]), str(own["host"]), float(own["since"]))
    except (OSError, ValueError, LookupError, TypeError):
        return Holder()
