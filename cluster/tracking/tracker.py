"""The listener that records a matrix in MLflow without ever being waited for.

Every call becomes one line of a journal file (journal.py); a thread brings the lines into the store (writer.py), where
each run is found before it is created and each point is logged once (store.py, runs.py). So a store that is away, slow
or locked costs training nothing, and a driver that is killed loses nothing: what is not in MLflow yet is brought there
by the next run in the same output folder, or by `writer.replay`. MLflow itself is imported in that thread only.
"""

from __future__ import annotations

import contextlib
import getpass
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.redaction import redacted
from cluster.tracking.journal import Event, Journal
from cluster.tracking.later import Later, safely
from cluster.tracking.location import EXPERIMENT, StoreLocation
from cluster.tracking.no_tracker import PARENT, Artifact, Artifacts, MatrixRun, NoTracker
from cluster.tracking.values import milliseconds, numbers
from cluster.tracking.writer import REFUSED, Writer
from cluster.work import Ended, Outcome, Work

LONGEST_JOB = 30.0  # seconds for the plots of one cell
_TEXTS = {"name", "params", "tags", "error"}  # of an event, where a secret may stand
LAST_SECONDS = 1.0  # for what is left when the time has run out


def _no_artifacts(work: Work, status: str, result: Mapping[str, Any] | None) -> Iterable[Artifact]:
    return ()


class Tracker(NoTracker):
    """Records cells, and the matrix they belong to, in MLflow; no call blocks for MLflow, none raises.

    With `matrix=None` each cell is a run of its own (a single training). `final_metrics` picks what is logged of a
    cell's result, once, at its end (default: its numbers); the names must differ from those of the epochs. Where the
    result has a `curve`, one mapping per epoch, the epochs that were not reported are logged from it.
    `cell_artifacts` lists the files to keep of a cell, from its work, status and result; it is called in a thread of
    its own, so it may take its time, to draw plots for instance.
    """

    def __init__(
        self,
        location: StoreLocation,
        matrix: MatrixRun | None = None,
        *,
        final_metrics: Callable[[Mapping[str, Any]], Mapping[str, Any]] = numbers,
        cell_artifacts: Callable[[Work, str, Mapping[str, Any] | None], Iterable[Artifact]] = _no_artifacts,
    ) -> None:
        self.location = location
        self._final_metrics = final_metrics
        self._cell_artifacts = cell_artifacts
        self._used = self._running = self._closed = False
        self._late = False  # the time to bring all over has run out
        self._told: dict[str, set[int]] = {}  # by cell that this session has started, the epochs it was told of
        self._later, self._drawing = Later(), Later()
        header = {
            "kind": "opened",
            "session": f"{time.time_ns()}-{uuid.uuid4().hex}",  # a later one sorts behind
            "store": location.identity,
            "address": location.shown,
            "experiment": EXPERIMENT,
            "matrix": matrix and redacted({**vars(matrix), "tags": _tags(matrix.tags)}),
            "context": _context(),
        }
        self._journal = Journal.create(location.spool, header)
        self._writer = Writer(self._journal, location)

    # What a listener is told

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """Open the parent run; runs that an earlier driver left RUNNING end as KILLED."""
        self._running = True
        self._record("matrix_started")

    def cell_started(self, work: Work) -> None:
        """Open the cell's run: the one it had before, if there is one, also within this session."""
        self._told.setdefault(work.key, set())
        self._record("cell_started", **_described(work))

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """Log the numbers among `metrics` at step `metrics["epoch"]`."""
        with safely():
            values = numbers(metrics)
            step = int(values.pop("epoch"))
            self._told.get(work.key, set()).add(step)
            self._record("cell_epoch", cell=work.key, step=step, metrics=values)

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Log the final metrics and artifacts and end the run as its status says."""
        if work.key not in self._told:  # it has failed before it could start
            self.cell_started(work)
        with (
            safely()
        ):  # an attempt that ends between the checkpoint of an epoch and its report takes the report with it
            for epoch in (ended.result or {}).get("curve", ()):
                if epoch["epoch"] not in self._told[work.key]:
                    self.cell_epoch(work, epoch)
        metrics: dict[str, float] = {}
        with safely():
            metrics = numbers(self._final_metrics(ended.result or {}))
        error = ended.error[-4000:] if ended.error else None  # the last lines of a traceback say most
        how = {"status": ended.status, "error": error, "fault": ended.fault, "retries": ended.retries}
        self._record("cell_ended", cell=work.key, **how, metrics=metrics, artifacts=[])
        del self._told[work.key]

        def record_files() -> None:
            artifacts = _listed(lambda: self._cell_artifacts(work, ended.status, ended.result))
            self._record("cell_files", cell=work.key, artifacts=artifacts)

        self._drawing.do(record_files)  # no number waits for a plot

    def matrix_ended(self, outcome: Outcome) -> None:
        """End the parent run: KILLED when cells are left, FAILED when one failed, else FINISHED."""
        failed = any(ended.status == "failed" for ended in outcome.ended.values())
        unfinished = outcome.interrupted or outcome.left
        self._running = False
        self._record("matrix_ended", status="interrupted" if unfinished else "failed" if failed else "done")

    # What only the tracker is told

    def record_finished(
        self,
        work: Work,
        curve: Sequence[Mapping[str, Any]],
        final_metrics: Mapping[str, Any] | None = None,
        status: str = "done",
        *,
        artifacts: Artifacts = (),
        reused_from: str | None = None,
        started: float | None = None,
        ended: float | None = None,
    ) -> None:
        """Record a cell that ran earlier, from what was written down of it; nothing happens if its run is complete.

        `curve` holds one mapping per epoch, with the key "epoch"; `started` and `ended` are seconds since 1970;
        `reused_from` names the matrix it ran in, if that was another.
        """

        def record() -> None:
            epochs = [numbers(metrics) for metrics in curve]
            described = _described(work)
            if reused_from is not None:
                described["tags"]["reused_from"] = reused_from
            end = ended or time.time()
            self._record(
                "cell_finished",
                **described,
                started=milliseconds(started or end),
                ended=milliseconds(end),
                status=status,
                error=None,
                curve=[(int(metrics.pop("epoch")), metrics) for metrics in epochs],
                metrics=numbers(final_metrics or {}),
                artifacts=_listed(artifacts),
            )

        self._later.do(record)

    def record_matrix(
        self,
        *,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Artifacts = (),
        step: int = 0,
        done: bool = False,
    ) -> None:
        """Add to the parent run, also after the matrix has ended: statistics, report, plots.

        A metric keeps its first value at a step; give the number of finished cells as `step` to add a newer one. With
        `done` every cell had its result before this session, whatever became of the one that ran the last.
        """

        def record() -> None:
            added = {"metrics": numbers(metrics or {}), "tags": _tags(tags or {}), "step": step, "done": done}
            self._record("matrix_recorded", **added, artifacts=_listed(artifacts))

        self._later.do(record)

    # What can be asked

    @property
    def problem(self) -> str | None:
        """None while all is well, else one line for the user on what keeps runs from being logged."""
        spool, homeless, waiting = self.location.spool, self._journal.homeless, self._journal.waiting()
        reason = self._writer.problem or ("it takes more time than there was" if self._late else None)
        if homeless and (reason is None or not waiting):
            reason = "not all is logged"
        if homeless:
            kept = f"{homeless} records are in no file, as {spool} cannot be written, and are lost when this ends"
        elif reason is not None and waiting:
            sync = f"altformer sync --out {shlex.quote(str(spool.parent))}"
            kept = f"what is not logged is kept in {self._journal.path}; the next run brings it over, or `{sync}`"
        elif self._writer.refused:
            return f"MLflow refused {self._writer.refused} records, kept in {spool / REFUSED}"
        elif self._late and (undone := self._later.undone + self._drawing.undone):
            return f"MLflow lacks the plots and files of {undone} cells, which there was no time to prepare"
        else:
            return None
        return f"MLflow at {self.location.shown}: {reason}; {kept}"

    def run_id(self, key: str) -> str | None:
        """The run id of the cell with this key, or of the matrix, once MLflow has it: ask after `flush` or `close`."""
        return self._writer.store.run_id(key) if self._writer.store else None

    def url(self, key: str = PARENT) -> str | None:
        """The web page of a cell's run (default: of the matrix), where the store has a server and the run is there."""
        store = self._writer.store
        run_id = self.run_id(key)
        if store is None or run_id is None or self.location.server is None:
            return None
        return f"{self.location.server}/#/experiments/{store.experiment()}/runs/{run_id}"

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all but cells' files is in MLflow; False if it is not after `timeout` seconds or some attempts."""
        until = time.monotonic() + timeout
        done = self._later.wait(timeout) and self._writer.drain(max(0.0, until - time.monotonic()))
        self._late = not done
        return done

    def close(self, timeout: float = 30.0) -> bool:
        """End what is still RUNNING, wait as `flush` does, for files too, and stop. False: not all is in MLflow."""
        if self._closed:
            return not self._journal.waiting()
        self._closed = True
        until = time.monotonic() + timeout
        prepared = self._later.wait(timeout)
        if self._used:
            self._record("closed", interrupted=self._running)
        drawn = self._drawing.wait(max(0.0, until - time.monotonic()))
        for jobs in (self._later, self._drawing):
            jobs.stop(LONGEST_JOB)
        done = self._writer.drain(max(LAST_SECONDS, until - time.monotonic()))
        self._writer.stop(max(LAST_SECONDS, until - time.monotonic()))
        self._late = not (prepared and drawn and done)
        return not self._late

    def _record(self, kind: str, **event: Any) -> None:
        with safely():
            self._used = True
            if texts := _TEXTS & event.keys():  # an epoch, of which there are most, has none
                event |= redacted({key: event[key] for key in texts})
            self._journal.append({"kind": kind, "t": milliseconds(time.time()), **event})
            self._writer.wake()


def _described(work: Work) -> Event:
    return {"cell": work.key, "name": work.name, "params": dict(work.params), "tags": _tags(work.tags)}


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` with the commit also under the name that MLflow's pages show; its client sets none by itself."""
    commit = tags.get("git_commit")
    return {**tags, **({"mlflow.source.git.commit": commit} if commit else {})}


def _context() -> dict[str, str]:
    context = {"mlflow.source.name": Path(sys.argv[0]).name or "python", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        context["mlflow.user"] = getpass.getuser()
    return context


def _listed(artifacts: Artifacts) -> list[tuple[str, str]]:
    with safely():
        listed = artifacts() if callable(artifacts) else artifacts
        return [(str(Path(local).absolute()), folder) for local, folder in listed]
    return []
