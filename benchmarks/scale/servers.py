"""How fast an MLflow server takes what simulated matrices have to log, on SQLite and on Postgres, from several drivers.

Each driver is a process of its own with a matrix of its own, whose events it brings over one at a time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.store import BATCH, MeasuredStore, bring_singly, ended_cells, epochs_each_second
from cluster.mlflow_server import BACKEND
from cluster.tracking.journal import Event
from cluster.tracking.location import resolve
from tests.experiments.served_mlflow import Server, postgres

DRIVERS = (1, 4)


@contextmanager
def sqlite() -> Iterator[str]:
    """No address: a server keeps its runs in SQLite then."""
    yield ""


BACKENDS = {"SQLite": sqlite, "Postgres": postgres}


def measure_servers(folder: Path, header: Event, events: Sequence[Event], seconds: float) -> list[dict[str, Any]]:
    """By database and number of drivers, the epochs a second that all of them together get logged.

    No row for a database that is not installed.
    """
    found = []
    for name, database in BACKENDS.items():
        try:
            with database() as address, Server(folder / name, environment={BACKEND: address} if address else {}) as own:
                MeasuredStore(resolve(folder, own.url), header, 0.0)  # makes the experiment, which all share
                for drivers in DRIVERS:
                    rates = _together(folder, own.url, header, events, seconds, drivers)
                    found.append({"database": name, "drivers": drivers, "epochs_per_second": sum(rates)})
        except pytest.skip.Exception as missing:
            print(missing, flush=True)
    return found


def _together(
    folder: Path, url: str, header: Event, events: Sequence[Event], seconds: float, drivers: int
) -> list[float]:
    some = {cell for cell, _ in zip(ended_cells(events), range(100), strict=False)}
    few = [event for event in events if event["kind"] == "matrix_started" or event.get("cell") in some]
    with ProcessPoolExecutor(drivers, multiprocessing.get_context("spawn")) as pool:
        tasks = [
            pool.submit(_driver, folder, url, header, few, seconds, f"{drivers}-{number}") for number in range(drivers)
        ]
        return [task.result(timeout=seconds + 120) for task in tasks]


def _driver(folder: Path, url: str, header: Event, events: Sequence[Event], seconds: float, name: str) -> float:
    """One driver: the epochs a second that it gets logged, with all that belongs to their cells."""
    own = {**header, "session": f"{header['session']}-{name}", "matrix": {**header["matrix"], "key": name}}
    store = MeasuredStore(resolve(folder, url), own, seconds)
    bring_singly(store, events, ended_cells(events), BATCH)
    return epochs_each_second(events, store.each())
