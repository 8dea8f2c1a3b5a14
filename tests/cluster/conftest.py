"""An MLflow database per test: its schema takes seconds to create, so it is created once and copied."""

from __future__ import annotations

import math
import shutil
import socket
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.location import StoreLocation, resolve


@dataclass
class Database:
    """What is in an MLflow database, read past MLflow."""

    path: Path

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def runs(self) -> dict[str, str]:
        """Status by name; fails when a name is there twice."""
        rows = self.rows("select name, status from runs")
        assert len(rows) == len({name for name, _ in rows}), rows
        return dict(rows)

    def points(self, name: str) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of each metric of the run, every one that was logged."""
        found = defaultdict(list)
        query = "select key, step, value, is_nan from metrics join runs using (run_uuid) where name = ? order by 1, 2"
        for key, step, value, is_nan in self.rows(query, name):
            found[key].append((step, math.nan if is_nan else value))
        return dict(found)

    def tags(self, name: str) -> dict[str, str]:
        return dict(self.rows("select key, value from tags join runs using (run_uuid) where name = ?", name))

    def params(self, name: str) -> dict[str, str]:
        return dict(self.rows("select key, value from params join runs using (run_uuid) where name = ?", name))

    def run_id(self, name: str) -> str:
        return str(self.rows("select run_uuid from runs where name = ?", name)[0][0])


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cluster.tracking.runs import connect

    location = resolve(tmp_path_factory.mktemp("mlflow"), "")
    connect(location).get_experiment_by_name("altformer")
    assert location.database is not None
    return location.database


@pytest.fixture
def location(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    """A store of its own with an empty database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return resolve(tmp_path)


@pytest.fixture
def database(location: StoreLocation) -> Database:
    assert location.database is not None
    return Database(location.database)


@pytest.fixture
def other_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a program that takes connections and is no Ray; what asks it is over with the test.

    A real `GcsClient` tries for 40 seconds, and ends this process where another test changes the token meanwhile
    (test_gcs.py tries one in a process of its own).
    """
    over = threading.Event()

    class Waiting:
        def __init__(self, address: str) -> None:
            over.wait(40)
            raise RuntimeError("Timed out while waiting for GCS to become available.")

    monkeypatch.setattr("ray._raylet.GcsClient", Waiting)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    over.set()
