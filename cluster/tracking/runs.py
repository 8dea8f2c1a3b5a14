"""MLflow's runs behind an interface in which doing a thing twice is the same as doing it once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cluster.tracking.location import SETTINGS, StoreLocation, artifact_uri
from cluster.tracking.values import (
    METRICS_PER_CALL,
    PARAM_LENGTH,
    TAG_LENGTH,
    chunks,
    clean_folder,
    clean_key,
    clean_name,
    clean_text,
    pairs,
)

log = logging.getLogger(__name__)

PAGE = 1000
EXPERIMENT_LENGTH = 500
# Without this tag MLflow 3 guesses from the runs which of its two faces to show.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

ENDINGS = {"diverged", "error", "fault", "retries"}  # tags that say how a run ended

Point = tuple[str, float, int, int]  # name, value, milliseconds, step


def connect(location: StoreLocation) -> Any:
    """An MlflowClient for `location`; imports MLflow and, at the first call, creates a missing schema: seconds."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # prints a traceback for each busy database
    logging.getLogger("alembic").setLevel(logging.ERROR)
    if location.database is not None:
        location.database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=location.uri)


@dataclass
class Run:
    """A run in the store. `steps` are the points known to be there, by metric; all of them when `fresh`.

    `session` is the last that had it in hand, `outcome` how it has ended in our words, of which MLflow has fewer.
    """

    run_id: str
    status: str
    session: str = ""
    outcome: str = ""
    fresh: bool = False
    steps: dict[str, set[int]] = field(default_factory=dict)

    def forget(self) -> None:
        """Know nothing of what the run holds: look it up before adding to it."""
        self.fresh = False
        self.steps.clear()


class Runs:
    """The runs of one experiment; which run belongs to what is told by the tag `run_key`."""

    def __init__(self, client: Any, location: StoreLocation, experiment: str, session: str = "") -> None:
        self._client = client
        self._location = location
        self._session = session
        self._name = clean_text(experiment, EXPERIMENT_LENGTH).strip() or "Default"
        self._experiment: str | None = None
        self._known: dict[str, Run] = {}
        self.complete = False  # every run that could be asked for is among the known ones

    @property
    def ids(self) -> dict[str, str]:
        """Run ids by run key, as far as they are known."""
        return {key: run.run_id for key, run in self._known.items()}

    def experiment(self) -> str:
        """The experiment's id; the experiment is created, or brought back from the bin, when it is not there."""
        if self._experiment is None:
            found = self._client.get_experiment_by_name(self._name)
            if found is None:
                place = artifact_uri(self._location, clean_key(self._name))
                try:
                    self._experiment = str(self._client.create_experiment(self._name, place, EXPERIMENT_TAGS))
                    return self._experiment
                except Exception as error:
                    if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = self._client.get_experiment_by_name(self._name)
                    if found is None:  # so that nobody else has just made it
                        raise
            if found.lifecycle_stage == "deleted":  # and its name cannot be given again
                self._client.restore_experiment(found.experiment_id)
            self._experiment = str(found.experiment_id)
        return self._experiment

    def forget(self) -> None:
        """A call failed, so nothing is known of what arrived: look everything up again."""
        self.complete = False
        for run in self._known.values():
            run.forget()

    def find(self, run_key: str) -> Run | None:
        """The run with this key, or None."""
        if run_key not in self._known and not self.complete:
            for _ in self.search(f"tags.run_key = '{run_key}'"):
                pass
        return self._known.get(run_key)

    def search(self, condition: str) -> Iterator[tuple[Run, Mapping[str, str]]]:
        """Our runs under `condition` that are not deleted, oldest first, each with its tags.

        A slow store may make a run after we gave up waiting for its answer and asked again: then there are two, of
        which the one that we did not go on with is empty, and deleted here.
        """
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment()],
                condition,
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for found in sorted(page, key=lambda found: not found.data.params):  # an empty one after the other
                tags = found.data.tags
                key = tags.get("run_key")
                if key is None:
                    continue
                run = Run(found.info.run_id, found.info.status, tags.get("session", ""), tags.get("status", ""))
                known = self._known.setdefault(key, run)
                if known.run_id == run.run_id:
                    yield known, tags
                elif self._session and run.session == self._session:
                    self._delete(run)
                else:
                    yield run, tags
            token = page.token
            if not token:
                return

    def _delete(self, run: Run) -> None:
        """Delete an empty run; where the server lets us add to an experiment but delete nothing, it stays."""
        try:
            self._client.delete_run(run.run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != "PERMISSION_DENIED":
                raise

    def create(self, run_key: str, name: str, tags: Mapping[str, str], time: int) -> Run:
        """A new run; its key and `tags` arrive with it, in one call, so that it can always be found again."""
        tags = pairs(tags, TAG_LENGTH) | {"run_key": run_key}
        made = self._client.create_run(self.experiment(), time, tags, clean_name(name))
        self._known[run_key] = Run(made.info.run_id, "RUNNING", self._session, fresh=True)
        return self._known[run_key]

    def reopen(self, run: Run) -> None:
        """Go on with a run that is there: RUNNING again, without the marks of how it ended before."""
        self._client.update_run(run.run_id, status="RUNNING")
        run.status = "RUNNING"
        run.session = self._session
        for mark in ENDINGS & set(self._client.get_run(run.run_id).data.tags):
            self._client.delete_tag(run.run_id, mark)

    def end(self, run: Run, status: str, time: int) -> None:
        """End a run as FINISHED, KILLED or FAILED."""
        self._client.set_terminated(run.run_id, status, time)
        run.status = status
        run.forget()  # a matrix has thousands of them

    def log(
        self,
        run: Run,
        points: Iterable[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Log points of metrics, params and tags, in as few calls as they fit in.

        A step that a metric already has keeps its first value; so does a param, which MLflow never changes; a tag gets
        the new one.
        """
        from mlflow.entities import Param, RunTag

        there = self._client.get_run(run.run_id).data.params if params and not run.fresh else {}
        new = {key: value for key, value in pairs(params or {}, PARAM_LENGTH).items() if key not in there}
        calls = zip_longest(
            _in_calls(self._new_points(run, points)),
            ([Param(*pair) for pair in chunk] for chunk in chunks(new.items())),
            ([RunTag(*pair) for pair in chunk] for chunk in chunks(pairs(tags or {}, TAG_LENGTH).items())),
            fillvalue=(),
        )
        for call in calls:
            self._client.log_batch(run.run_id, *call)

    def _new_points(self, run: Run, points: Iterable[Point]) -> list[Any]:
        """Those whose metric does not have the step yet."""
        from mlflow.entities import Metric

        new = []
        for name, value, time, step in points:
            key = clean_key(name)
            if key not in run.steps:
                history = [] if run.fresh else self._client.get_metric_history(run.run_id, key)
                run.steps[key] = {point.step for point in history}
            if step not in run.steps[key]:
                run.steps[key].add(step)  # all of `steps` is forgotten should a call fail
                new.append(Metric(key, value, time, step))
        return new

    def log_artifacts(self, run: Run, artifacts: Iterable[tuple[str, str]]) -> None:
        """Copy (file or folder, folder inside the run); again is over itself.

        A file that cannot be stored although the store answers is left out with a warning: no metric waits for it.
        """
        for local, folder in artifacts:
            try:
                if Path(local).is_dir():
                    self._client.log_artifacts(run.run_id, local, clean_folder(folder))
                else:
                    self._client.log_artifact(run.run_id, local, clean_folder(folder))
            except Exception as error:
                self._client.get_run(run.run_id)  # raises when it is the store that is away: to be done again
                log.warning("not stored in MLflow: %s (%s: %s)", local, type(error).__name__, error)


def _in_calls(points: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(points), METRICS_PER_CALL):
        yield points[start : start + METRICS_PER_CALL]
