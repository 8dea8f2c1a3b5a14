"""Where runs are recorded: the MLflow store's address, the lock of its one writer, the folder of what waits."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit, urlunsplit

from cluster.environment import QUIET
from cluster.errors import ClusterError
from cluster.file_lock import lock_file

EXPERIMENT = "altformer"  # in MLflow: of all runs and models
DATABASE = "mlflow.db"
SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
# MLflow waits 120 s and tries again for 4 minutes; events are kept on disk here, so giving up early costs nothing.
# A value the user has set stays.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each run that ends, amid the progress
    **QUIET,
}


@dataclass(frozen=True)
class StoreLocation:
    """One MLflow store as seen from one output folder.

    `spool` is the folder of events that are not in the store yet, `database` the SQLite file (None for others),
    `artifacts` the folder that new experiments keep files in (None: the server decides).
    """

    uri: str
    spool: Path
    database: Path | None = None
    artifacts: Path | None = None

    @property
    def shown(self) -> str:
        """The address without user name and password."""
        parts = urlsplit(self.uri)
        if "@" not in parts.netloc:
            return self.uri
        return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))

    @property
    def identity(self) -> str:
        """A hash of the address, by which a spool knows its store without keeping a password."""
        return hashlib.sha256(self.uri.encode()).hexdigest()[:16]

    @property
    def server(self) -> str | None:
        """The base of the store's web pages, or None where no server is in front of it."""
        return self.shown.rstrip("/") if urlsplit(self.uri).scheme in SERVERS else None


def resolve(out: Path, uri: str | None = None) -> StoreLocation:
    """The store for runs under `out`: `uri`, else $MLFLOW_TRACKING_URI, else SQLite in `out` itself.

    Raises ClusterError for an address that MLflow 3 refuses or that would depend on the working directory.
    """
    out = out.absolute()
    given = uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    spool = out / "mlflow-spool"
    if not given:
        return _sqlite(out / DATABASE, "", spool)
    parts = urlsplit(given)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        path, _, query = given.partition(":")[2].removeprefix("//").removeprefix("/").partition("?")
        if not path or path == ":memory:":
            raise ClusterError(f"MLflow address {given!r} names no file; write sqlite:////absolute/path/{DATABASE}")
        return _sqlite(Path(path).absolute(), query, spool)
    if kind in SERVERS and parts.netloc:
        return StoreLocation(given, spool)
    if kind in DATABASES:
        return StoreLocation(given, spool, artifacts=out / "mlartifacts")
    raise ClusterError(
        f"MLflow address {StoreLocation(given, spool).shown!r} cannot be used (MLflow 3 has no file store); valid are "
        + f"sqlite:////absolute/path/{DATABASE}, http(s)://host:port, "
        + ", ".join(f"{kind}://" for kind in DATABASES)
    )


def _sqlite(path: Path, query: str, spool: Path) -> StoreLocation:
    if set("?%") & set(str(path)):  # versions of SQLAlchemy differ in whether an address is unquoted
        raise ClusterError(f"MLflow's SQLite database cannot lie in a folder with '?' or '%' in its name: {path}")
    uri = f"sqlite:///{path}" + (f"?{query}" if query else "")
    return StoreLocation(uri, spool, database=path, artifacts=path.parent / "mlartifacts")


def artifact_uri(location: StoreLocation, experiment: str) -> str | None:
    """The file URI for the artifacts of a new experiment, or None where the server decides."""
    if location.artifacts is None:
        return None
    return (location.artifacts / quote(experiment, safe=" ").replace(".", "_")).as_uri()


class WriteLock:
    """Lets one process at a time write to an SQLite store; free at once for stores that have their own server.

    SQLite runs here without its write-ahead log and creating the schema races, so writers take turns.
    """

    def __init__(self, location: StoreLocation) -> None:
        self._path = location.database.with_name(location.database.name + ".lock") if location.database else None
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; False when another process has it.

        Raises OSError if it cannot be made, ClusterError as `lock_file`.
        """
        if self._path is None or self._file is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(self._path.open("ab"))
            if not lock_file(file, self._path):
                return False
            opened.pop_all()
            self._file = file
            return True

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None
