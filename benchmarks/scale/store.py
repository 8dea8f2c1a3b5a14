"""How fast MLflow's store takes what a simulated matrix has to log, and how far behind that leaves the log.

The events are those of the matrix's journal, as the tracker has written them; the store is a real one (SQLite). Events
are brought over one at a time, which is what the writer does while it keeps up, and then as from a backlog.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.tracking.journal import Event, Journal
from cluster.tracking.location import StoreLocation, resolve
from cluster.tracking.runs import connect
from cluster.tracking.store import RunStore
from cluster.tracking.writer import bring_over

BATCH = 2  # cells that are brought over together, all of their events
ROWS_AT_ONCE = 50_000
EPOCH = "cell_epoch"


class TimeUpError(Exception):
    """Enough has been measured."""


class _Counted:
    """An MLflow client whose calls are counted."""

    def __init__(self, client: Any) -> None:
        self._client, self.calls = client, 0

    def __getattr__(self, method: str) -> Any:
        own = getattr(self._client, method)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return own(*arguments, **options)

        return counted


class MeasuredStore(RunStore):
    """Counts events, calls and seconds by kind of event, until so many `seconds` have passed after the first epoch."""

    def __init__(self, location: StoreLocation, header: Mapping[str, Any], seconds: float) -> None:
        self._client = _Counted(connect(location))
        super().__init__(self._client, location, header)
        self.experiment()  # makes the schema, which takes seconds
        self.events: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._limit, self._until = seconds, math.inf

    def apply(self, events: list[Event]) -> None:
        """As of any store."""
        began, calls, kind = time.perf_counter(), self._client.calls, events[0]["kind"]
        if began > self._until:
            raise TimeUpError
        if kind == EPOCH and self._until == math.inf:
            self._until = began + self._limit
        super().apply(events)
        self.events[kind] += len(events)
        self.calls[kind] += self._client.calls - calls
        self.seconds[kind] += time.perf_counter() - began

    def each(self) -> dict[str, dict[str, float]]:
        """Seconds and calls for one event of each kind."""
        return {
            kind: {"seconds": self.seconds[kind] / count, "calls": self.calls[kind] / count}
            for kind, count in self.events.items()
        }


def read_journal(path: Path) -> tuple[Event, list[Event]]:
    """The header of a spool file and its events, up to the end of the matrix."""
    with path.open("rb") as file:
        header, *events = map(json.loads, file)
    return header, [event for event in events if event["kind"] != "closed"]


def measure_singly(folder: Path, header: Event, events: Sequence[Event], seconds: float) -> dict[str, Any]:
    """What one event of each kind takes a store in `folder`, with batches of cells until the time is up.

    First with the store empty, then with as many points in it as the matrix has.
    """
    location = resolve(folder, f"sqlite:///{folder.absolute() / 'singly.db'}")
    assert location.database is not None
    cells = ended_cells(events)
    found: dict[str, Any] = {}
    for name, before in (("empty", 0), ("full", sum(_points(events)))):
        filled = fill(location.database, before) if before else 0.0
        store = MeasuredStore(location, header, seconds)
        bring_singly(store, events, cells, BATCH)
        found[name] = {"each": store.each(), "points_before": before, "fill_seconds": filled}
        found[name]["bytes"] = location.database.stat().st_size
    return found


def ended_cells(events: Sequence[Event]) -> Iterator[str]:
    """The cells that have ended, in that order."""
    return iter([event["cell"] for event in events if event["kind"] == "cell_ended"])


def bring_singly(store: MeasuredStore, events: Sequence[Event], cells: Iterator[str], batch: int) -> None:
    """Bring over the events of some cells after others, one event at a time, until the store's time is up."""
    with suppress(TimeUpError):
        store.apply([{"kind": "matrix_started", "t": events[0]["t"]}])
        while some := set(islice(cells, batch)):
            for event in events:
                if event.get("cell") in some:
                    store.apply([event])


def measure_backlog(folder: Path, journal: Path, seconds: float) -> dict[str, float]:
    """How fast a journal that nobody has kept up with is brought into an empty store in `folder`, as far as it gets."""
    location = resolve(folder, f"sqlite:///{folder.absolute() / 'backlog.db'}")
    adopted = Journal.adopt(journal)
    assert adopted is not None
    with closing(adopted):
        store = MeasuredStore(location, adopted.header, seconds)
        with suppress(TimeUpError):
            bring_over(adopted, store, location)
    calls = max(store.calls[EPOCH], 1)
    return {
        "events": store.events.total(),
        "seconds": sum(store.seconds.values()),
        "epochs_per_call": store.events[EPOCH] / calls,
        "epochs_per_second": store.events[EPOCH] / max(store.seconds[EPOCH], 1e-9),
    }


def fill(database: Path, points: int) -> float:
    """Put points of runs that are not there into a store, past MLflow; returns the seconds that took."""
    began = time.perf_counter()
    with closing(sqlite3.connect(database)) as store:
        store.execute("pragma synchronous = off")
        rows = ((f"val_mae_{n % 17}", 3.0 + n, 1_000 + n, f"{n // 510:032x}", n % 510 // 17, 0) for n in range(points))
        while some := list(islice(rows, ROWS_AT_ONCE)):
            store.executemany("insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values "
                              "(?, ?, ?, ?, ?, ?)", some)  # fmt: skip
        store.commit()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Backlog:
    """A writer beside a running matrix.

    Share of the time that it is at work, `points` it is given a second, the most events that wait, the longest that one
    waits, and how long it goes on after the matrix has ended (seconds).
    """

    busy: float
    points: float
    calls: float
    waiting: int
    longest_wait: float
    behind: float


def backlog(events: Sequence[Event], each: Mapping[str, Mapping[str, float]], faster: float) -> Backlog:
    """What a writer is given by a matrix whose cells train `faster` times as fast; `each` kind of event costs this."""
    begun, ended = events[0]["t"], max(event["t"] for event in events)
    lasted = (ended - begun) / 1000 / faster
    free, longest, most, work, calls = 0.0, 0.0, 0, 0.0, 0.0
    done: list[float] = []  # when each event was brought over
    first_waiting = 0
    for number, event in enumerate(events):
        at = (event["t"] - begun) / 1000 / faster
        own = each.get(event["kind"], {"seconds": 0.0, "calls": 0.0})
        free = max(free, at) + own["seconds"]
        work, calls = work + own["seconds"], calls + own["calls"]
        done.append(free)
        longest = max(longest, free - at)
        while first_waiting <= number and done[first_waiting] <= at:
            first_waiting += 1
        most = max(most, number + 1 - first_waiting)
    points = sum(_points(events)) / lasted
    return Backlog(work / lasted, points, calls / lasted, most, longest, max(free - lasted, 0.0))


def epochs_each_second(events: Sequence[Event], each: Mapping[str, Mapping[str, float]]) -> float:
    """The epochs a second at which a writer just keeps up, with all that belongs to their cells."""
    epochs: int = sum(event["kind"] == EPOCH for event in events)
    return epochs / math.fsum(each[event["kind"]]["seconds"] for event in events if event["kind"] in each)


def _points(events: Iterable[Event]) -> Iterator[int]:
    return (len(event["metrics"]) for event in events if "metrics" in event)
