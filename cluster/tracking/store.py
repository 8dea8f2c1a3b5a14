"""What the events of a session mean for MLflow's runs: one parent for the matrix, one child per cell."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.tracking.journal import Event
from cluster.tracking.location import StoreLocation
from cluster.tracking.no_tracker import PARENT
from cluster.tracking.runs import Point, Run, Runs

#: A cell's status in MLflow's words. A diverged cell is a result, told apart by its tag.
RUN_STATUS = {
    "done": "FINISHED",
    "diverged": "FINISHED",
    "stopped": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
# What MLflow says of an event that no second attempt will make acceptable.
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"}


class RefusedError(Exception):
    """The store will never accept this event; any other failure is the store's and worth another attempt."""


class RunStore:
    """Applies one session's events, in order; applying them again changes nothing.

    With `late` the session is over and its runs may have been gone on with since: what a later session has said of how
    a run stands is left as it is.
    """

    def __init__(self, client: Any, location: StoreLocation, header: Mapping[str, Any], late: bool = False) -> None:
        self._session = str(header["session"])
        self._late = late
        self._matrix: Mapping[str, Any] | None = header["matrix"]
        self._context: Mapping[str, str] = header["context"]
        self._runs = Runs(client, location, header["experiment"], self._session)
        self._described = False
        self._apply = {
            "matrix_started": self._matrix_started,
            "cell_started": self._cell_started,
            "cell_ended": self._cell_ended,
            "cell_files": self._cell_files,
            "cell_finished": self._cell_finished,
            "matrix_recorded": self._matrix_recorded,
            "matrix_ended": self._matrix_ended,
            "closed": self._closed,
        }

    def run_id(self, cell: str) -> str | None:
        """The MLflow run of a cell, or of the matrix itself (PARENT), as far as it is known."""
        return self._runs.ids.get(self._run_key(cell))

    def experiment(self) -> str:
        """The experiment's id."""
        return self._runs.experiment()

    def apply(self, events: list[Event]) -> None:
        """Log one event, or several `cell_epoch` events in as few calls as there are cells.

        Raises RefusedError for what the store will never take. After any other exception nothing is known of what
        arrived; the same events may be given again and leave nothing twice.
        """
        try:
            if events[0]["kind"] == "cell_epoch":
                self._cell_epochs(events)
            else:
                self._apply[events[0]["kind"]](events[0])
        except Exception as error:
            self._runs.forget()
            if _is_refusal(error):
                raise RefusedError(f"{type(error).__name__}: {error}") from error
            raise

    def _matrix_started(self, event: Event) -> None:
        parent = self._parent(event["t"])
        if parent is None or self._is_anothers(parent):
            return
        self._runs.reopen(parent)
        self._runs.log(parent, tags={"status": "running", "session": self._session})
        for run, tags in self._children(parent):
            if run.status == "RUNNING" and tags.get("session") != self._session:  # left by a driver that was killed
                self._end(run, "interrupted", event["t"])

    def _cell_started(self, event: Event) -> None:
        run = self._runs.find(self._run_key(event["cell"]))
        own = {**event["tags"], "cell_hash": event["cell"], "session": self._session, "status": "running"}
        if run is None:
            identity = {**self._context, "kind": "cell"}
            parent = self._parent(event["t"])
            if parent is not None:
                identity["mlflow.parentRunId"] = parent.run_id
            began = event["started"] if "started" in event else event["t"]
            run = self._runs.create(self._run_key(event["cell"]), event["name"], {**identity, **own}, began)
            self._runs.log(run, params=event["params"])
        elif not self._is_anothers(run):
            self._runs.reopen(run)
            self._runs.log(run, params=event["params"], tags=own)

    def _cell_epochs(self, events: list[Event]) -> None:
        points: dict[str, list[Point]] = defaultdict(list)
        for event in events:
            points[event["cell"]] += [(k, v, event["t"], event["step"]) for k, v in event["metrics"].items()]
        for cell, of_cell in points.items():
            self._runs.log(self._running(cell), of_cell)

    def _cell_ended(self, event: Event) -> None:
        run = self._running(event["cell"])
        if self._is_anothers(run):
            return
        self._runs.log_artifacts(run, event["artifacts"])
        marks = {
            "diverged": "true" if event["status"] == "diverged" else None,
            "error": event["error"],
            "fault": event.get("fault"),
            "retries": str(event["retries"]) if event.get("retries") else None,
        }
        points = [(name, value, event["t"], 0) for name, value in event["metrics"].items()]
        self._end(run, event["status"], event["t"], points, marks)

    def _cell_files(self, event: Event) -> None:
        run = self._running(event["cell"])
        if not self._is_anothers(run):
            self._runs.log_artifacts(run, event["artifacts"])

    def _cell_finished(self, event: Event) -> None:
        parent = self._runs.find(self._run_key(PARENT)) if self._matrix and not self._runs.complete else None
        if parent is not None:  # one search for all the cells that are going to follow this one
            self._children(parent)
        run = self._runs.find(self._run_key(event["cell"]))
        if run is not None and (run.outcome, run.status) == (event["status"], RUN_STATUS.get(event["status"])):
            return
        self._cell_started(event)
        points = [(k, v, event["ended"], step) for step, metrics in event["curve"] for k, v in metrics.items()]
        self._runs.log(self._running(event["cell"]), points)
        self._cell_ended({**event, "t": event["ended"]})

    def _matrix_recorded(self, event: Event) -> None:
        parent = self._parent(event["t"])
        if parent is not None:
            self._runs.log(parent, [(k, v, event["t"], event["step"]) for k, v in event["metrics"].items()])
            if self._is_anothers(parent):
                return
            self._runs.log(parent, tags=event["tags"])
            self._runs.log_artifacts(parent, event["artifacts"])
            if event.get("done") and (parent.outcome, parent.status) != ("done", "FINISHED"):
                self._runs.reopen(parent)
                self._runs.log(parent, tags={"session": self._session})
                self._end(parent, "done", event["t"])

    def _matrix_ended(self, event: Event) -> None:
        parent = self._parent(event["t"])
        if parent is not None and not self._is_anothers(parent):
            self._end(parent, event["status"], event["t"])

    def _closed(self, event: Event) -> None:
        """Nothing of this session stays RUNNING; a matrix without a cell to run has ended well."""
        for run, tags in self._runs.search(f"tags.session = '{self._session}' and attributes.status = 'RUNNING'"):
            well = tags.get("kind") == "matrix" and not event["interrupted"]
            self._end(run, "done" if well else "interrupted", event["t"])

    def _is_anothers(self, run: Run) -> bool:
        """Whether a later session has the run in hand; their names begin with when they did."""
        return self._late and run.session > self._session

    def _run_key(self, cell: str) -> str:
        matrix = self._matrix["key"] if self._matrix else ""
        return hashlib.sha256(f"{matrix}\n{cell}".encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _children(self, parent: Run) -> list[tuple[Run, Mapping[str, str]]]:
        """All cells of the matrix that have a run; from now on there is nothing to search for."""
        found = list(self._runs.search(f"tags.`mlflow.parentRunId` = '{parent.run_id}'"))
        self._runs.complete = True
        return found

    def _running(self, cell: str) -> Run:
        run = self._runs.find(self._run_key(cell))
        if run is None:
            raise RefusedError(f"cell {cell} has no run in MLflow: it was deleted there")
        return run

    def _parent(self, time: int) -> Run | None:
        """The matrix's run, created if need be, with its tags and params."""
        if self._matrix is None:
            return None
        key = self._run_key(PARENT)
        parent = self._runs.find(key)
        if parent is None:
            identity = {**self._context, "kind": "matrix", "session": self._session, "status": "running"}
            parent = self._runs.create(key, self._matrix["name"], identity, time)
        if not self._described:
            self._runs.log(parent, params=self._matrix["params"], tags=self._matrix["tags"])
            self._described = True
        return parent

    def _end(
        self,
        run: Run,
        status: str,
        time: int,
        points: Iterable[Point] = (),
        marks: Mapping[str, str | None] | None = None,
    ) -> None:
        self._runs.log(run, points, tags={"status": status, **(marks or {})})
        run.outcome = status
        self._runs.end(run, RUN_STATUS.get(status, "FAILED"), time)


def _is_refusal(error: Exception) -> bool:
    """Whether it is the event that is wrong. An error page of a proxy says nothing of the event."""
    if isinstance(error, RefusedError):
        return True
    wrong = isinstance(error, TypeError | KeyError | ValueError) and not isinstance(error, json.JSONDecodeError)
    return wrong or getattr(error, "error_code", None) in REFUSALS
