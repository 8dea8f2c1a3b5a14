"""MLflow's model registry: a folder that holds a model becomes a version under a name."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.tracking.location import EXPERIMENT, StoreLocation, WriteLock
from cluster.tracking.runs import Runs, connect
from cluster.tracking.values import TAG_LENGTH, pairs

LONGEST_WAIT = 60.0
NAME = re.compile(r"[\w.-][\w. -]*", re.ASCII)


@dataclass(frozen=True)
class Version:
    """One version of a registered model; ``new`` is False where it was there already."""

    name: str
    number: int
    new: bool

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """The registered models of one store; one process at a time writes to an SQLite store."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location
        self._lock = WriteLock(location)

    def register(
        self, name: str, write: Callable[[Path], None], tags: Mapping[str, str], key: str, alias: str | None = None
    ) -> Version:
        """Make a model a version of ``name``, unless one has the same tag ``key`` already.

        ``write`` makes the folder of the MLflow model. It belongs to the run with that tag, where there is one. The
        ``alias`` is set in either case.
        """
        with self._store() as client:
            version = _find(client, name, key, tags[key])
            if version is None:
                with tempfile.TemporaryDirectory() as folder:
                    write(Path(folder) / "model")
                    version = self._add(client, name, Path(folder) / "model", tags, key)
            if alias is not None:
                client.set_registered_model_alias(name, alias, str(version.number))
            return version

    def _add(self, client: Any, name: str, folder: Path, tags: Mapping[str, str], key: str) -> Version:
        experiment = Runs(client, self._location, EXPERIMENT).experiment()
        found = client.search_runs([experiment], f"tags.{key} = '{tags[key]}'", max_results=1)
        run_id = found[0].info.run_id if found else None
        clean = pairs(tags, TAG_LENGTH)
        model = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=clean)
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        # Without a run MLflow would look for the model in the store of the process, which is not asked for here.
        linked = model.model_id if run_id else None
        made = client.create_model_version(name, model.artifact_location, run_id, clean, model_id=linked)
        return Version(name, int(made.version), new=True)

    @contextmanager
    def _store(self) -> Iterator[Any]:
        """A client, and the store for ourselves; ClusterError when it is busy, away, or refuses."""
        until = time.monotonic() + LONGEST_WAIT
        while not self._lock.acquire():
            if time.monotonic() > until:
                raise ClusterError(f"MLflow at {self._location.shown}: another process is writing to it; try again")
            time.sleep(0.1)
        try:
            client = connect(self._location)
            from mlflow.exceptions import MlflowException

            try:
                yield client
            except MlflowException as error:
                raise ClusterError(f"MLflow at {self._location.shown}: {str(error).splitlines()[0]}") from error
        finally:
            self._lock.release()


def check_name(name: str) -> str:
    """A name that MLflow's registry and its addresses take; ClusterError for any other."""
    if not NAME.fullmatch(name) or name != name.strip() or set(name) <= {"."}:
        raise ClusterError(
            f"--name {name!r}: a registered model's name has letters, digits and `_ - .` or blanks between them, such "
            "as altformer-metr-la (no slash, no colon)"
        )
    return name


def _find(client: Any, name: str, tag: str, value: str) -> Version | None:
    versions = [
        int(version.version)
        for version in client.search_model_versions(f"name = '{name}'")
        if version.tags.get(tag) == value
    ]
    return Version(name, max(versions), new=False) if versions else None
