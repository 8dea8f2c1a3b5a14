"""``events.jsonl`` of a matrix's folder: a line for each thing that happens while it runs, for who looks from outside.

Every run appends; its lines begin with ``matrix_started``. A line has ``t`` (seconds since 1970), ``kind`` (the method
of `Listener` that was told), and of a cell ``cell`` (its hash) and ``name`` (arm and seed).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.work import Ended, Fault, Listener, Outcome, Work

FILE = "events.jsonl"
KEPT_METRICS = ("train_loss", "epoch_seconds")  # besides the objective; the record has all
TEXT_LETTERS = 2000  # of a fault's text its end, which says most; the record has all

Event = dict[str, Any]


class Events(Listener):
    """Writes what it is told to a folder's ``events.jsonl``, each line at once; a full disk costs lines, nothing else.

    One ``write`` to a file opened for appending is all that a line takes: it survives ``kill -9`` of this process.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self._path, self._metric = folder / FILE, metric
        self._file: int | None = None
        self._is_torn = False

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """A run begins, with these cells."""
        cells = [
            {"cell": work.key, "name": work.name, "epochs": work.epochs, "expected_seconds": work.expected_seconds}
            for work in works
        ]
        self._write("matrix_started", None, pid=os.getpid(), host=platform.node(), slots=slots, cells=cells)

    def cell_started(self, work: Work) -> None:
        """A cell has a slot."""
        self._write("cell_started", work)

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """A cell reported an epoch."""
        kept = {name: metrics[name] for name in (self._metric, *KEPT_METRICS) if name in metrics}
        self._write("cell_epoch", work, epoch=metrics.get("epoch"), metrics=kept)

    def cell_paused(self, work: Work) -> None:
        """A cell waits at a rung."""
        self._write("cell_paused", work)

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """An attempt at a cell was lost."""
        self._write("cell_retried", work, fault=fault.kind, text=fault.text[-TEXT_LETTERS:], retries=retries)

    def notice(self, text: str) -> None:
        """Something about the cluster."""
        self._write("notice", None, text=text)

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """A cell has its status."""
        text = ended.error[-TEXT_LETTERS:] if ended.error else None
        how = {"status": ended.status, "fault": ended.fault, "retries": ended.retries, "seconds": ended.seconds}
        self._write("cell_ended", work, **how, text=text)

    def interrupted(self, signal_name: str, seconds: float) -> None:
        """Cells are asked to leave."""
        self._write("interrupted", None, text=signal_name, seconds=seconds)

    def matrix_ended(self, outcome: Outcome) -> None:
        """Nothing runs any more."""
        why = {"interrupted": outcome.interrupted, "budget": outcome.budget, "halted": outcome.halted}
        self._write("matrix_ended", None, **why, left=[work.key for work in outcome.left], seconds=outcome.seconds)
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _write(self, kind: str, work: Work | None, **rest: Any) -> None:
        of_cell = {} if work is None else {"cell": work.key, "name": work.name}
        line = json.dumps({"t": round(time.time(), 3), "kind": kind, **of_cell, **rest}, default=str).encode() + b"\n"
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
                self._is_torn = _ends_within_a_line(self._path)
            line = b"\n" + line if self._is_torn else line
            self._is_torn = True  # unless all of it is written
            self._is_torn = os.write(self._file, line) < len(line)


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a folder's ``events.jsonl`` in order, without lines that are damaged; none where there is none."""
    try:
        with (folder / FILE).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                event = _parsed(line)
                if event is not None:
                    yield event
    except OSError:
        return


def _parsed(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("kind"), str) and isinstance(event.get("t"), int | float)
    return event if known else None


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) not in (b"\n", b"")
