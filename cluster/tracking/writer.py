"""The thread that brings a journal's events into MLflow, waits where MLflow is away, and replays what others left."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.tracking.journal import Event, Journal, orphans
from cluster.tracking.location import StoreLocation, WriteLock
from cluster.tracking.runs import connect
from cluster.tracking.store import RefusedError, RunStore
from cluster.tracking.values import milliseconds, why

log = logging.getLogger(__name__)

LOCK_PAUSE = 0.2
LONGEST_PAUSE = 60.0
HURRIED_PAUSE = 0.5
ATTEMPTS_WHEN_HURRIED = 3
REFUSED = "refused.json"  # not .jsonl: that is what waits


class Writer:
    """Owns the connection to MLflow; nothing it does is seen by the threads that append to the journal.

    The SQLite lock is held only while there is something to write: several matrices on one database take turns.
    """

    def __init__(self, journal: Journal, location: StoreLocation) -> None:
        self.problem: str | None = None
        self.refused = 0
        self._journal = journal
        self._location = location
        self._client: Any = None
        self._store: RunStore | None = None
        self._lock = WriteLock(location)
        self._failures = 0
        self._failed_rounds = 0
        self._hurry = False
        self._stopping = False
        self._signal = threading.Event()
        self._finished = threading.Condition()
        self._thread = threading.Thread(target=self._main, name="mlflow-writer", daemon=True)
        self._thread.start()

    @property
    def store(self) -> RunStore | None:
        """What is known of the runs; None before the first contact."""
        return self._store

    def wake(self) -> None:
        """There is a new event. While the store is away this does not bring the next attempt forward."""
        if not self._failures:
            self._signal.set()

    def drain(self, timeout: float) -> bool:
        """Wait until every event is in the store; False after `timeout` seconds or a few attempts in vain."""
        enough = self._failed_rounds + ATTEMPTS_WHEN_HURRIED
        self._hurry = True
        self._signal.set()
        with self._finished:
            self._finished.wait_for(
                lambda: not self._journal.waiting() or self._failed_rounds >= enough or not self._thread.is_alive(),
                timeout,
            )
        self._hurry = False
        return not self._journal.waiting()

    def stop(self, timeout: float) -> None:
        """End the thread after what it is doing; it lets go of the journal."""
        self._stopping = True
        self._signal.set()
        self._thread.join(timeout)

    def _main(self) -> None:
        pause: float | None = None
        while not (self._stopping and (pause is not None or not self._journal.waiting())):
            self._signal.wait(min(pause, HURRIED_PAUSE) if self._hurry and pause else pause)
            self._signal.clear()
            pause = self._round()
            with self._finished:
                self._finished.notify_all()
        self._journal.finish()

    def _round(self) -> float | None:
        """Bring over what there is; returns the seconds until another attempt, None when all is done."""
        if not self._journal.waiting():
            return None
        try:
            if not self._lock.acquire():
                self.problem = "another process is writing to the MLflow database"
                return LOCK_PAUSE
            self._bring_over()
        except Exception as error:
            self._journal.keep()
            self._failures += 1
            self._failed_rounds += 1
            if self.problem is None:
                kept = self._journal.path or "memory"
                log.warning("MLflow at %s: %s; what is not logged waits in %s", self._location.shown, why(error), kept)
            self.problem = why(error)
            return min(LONGEST_PAUSE, 2.0**self._failures)
        finally:
            self._lock.release()
        self.problem = None
        self._failures = 0
        return None

    def _bring_over(self) -> None:
        if self._client is None:
            self._client = connect(self._location)
        if self._store is None:
            self.refused += replay_orphans(self._client, self._location)
            store = RunStore(self._client, self._location, self._journal.header)
            store.experiment()
            self._store = store
        self.refused += bring_over(self._journal, self._store, self._location)


def bring_over(journal: Journal, store: RunStore, location: StoreLocation) -> int:
    """Apply all events of `journal`; returns how many the store refused. Raises what a failing store raises."""
    refused = 0
    while events := journal.read():
        for group, position in _groups(events):
            refused += _apply(store, group, location)
            journal.advance(position)
    return refused


def replay_orphans(client: Any, location: StoreLocation) -> int:
    """Bring over what ended processes left for this store, and end the runs that they left RUNNING."""
    refused = 0
    for journal in orphans(location.spool):
        with contextlib.closing(journal):
            if journal.header["store"] == location.identity:
                refused += replay_orphan(journal, client, location)
    return refused


def replay_orphan(journal: Journal, client: Any, location: StoreLocation) -> int:
    """Bring over one ended process's events; where it did not close its runs itself, they were interrupted."""
    ended = milliseconds(journal.modified())
    store = RunStore(client, location, journal.header, late=True)
    refused = bring_over(journal, store, location)
    refused += _apply(store, [{"kind": "closed", "t": ended, "interrupted": True}], location)
    journal.finish()
    return refused


@dataclass(frozen=True)
class Replayed:
    """What a replay did: `left` are the spool files that stay, `problem` says why."""

    replayed: int
    refused: int
    left: tuple[Path, ...]
    problem: str | None


def replay(location: StoreLocation, spool: Path | None = None) -> Replayed:
    """Bring a spool file, or all in the folder of `location`, into the store; also those meant for another address.

    Nothing is logged twice. Files of processes that still run are left alone.
    """
    paths = [spool] if spool is not None else sorted(location.spool.glob("*.jsonl"))
    lock = WriteLock(location)
    replayed = refused = 0
    left: list[Path] = []
    problem = None
    client = None
    for number, path in enumerate(paths):
        journal = None
        try:
            journal = Journal.adopt(path)
            if journal is None or not lock.acquire():
                problem = f"{path} is still being written" if journal is None else "another process is writing"
                left.append(path)
                continue
            client = client or connect(location)
            refused += replay_orphan(journal, client, location)
            replayed += 1
        except Exception as error:
            problem = why(error)
            if journal is not None:  # it is the store that fails, and would fail as slowly with each of the others
                left += paths[number:]
                break
            left.append(path)
        finally:
            lock.release()
            if journal is not None:
                journal.close()
    return Replayed(replayed, refused, tuple(left), problem)


def _groups(events: list[tuple[Event, int]]) -> Iterator[tuple[list[Event], int]]:
    """Epochs that follow each other together, everything else alone, each with the position after it."""
    group: list[Event] = []
    last = 0
    for event, position in events:
        if event["kind"] != "cell_epoch" and group:
            yield group, last
            group = []
        group.append(event)
        last = position
        if event["kind"] != "cell_epoch":
            yield group, last
            group = []
    if group:
        yield group, last


def _apply(store: RunStore, events: list[Event], location: StoreLocation) -> int:
    try:
        store.apply(events)
    except RefusedError as error:
        if len(events) > 1:
            return sum(_apply(store, [event], location) for event in events)
        log.warning("MLflow refuses a record, kept in %s: %s", location.spool / REFUSED, error)
        with contextlib.suppress(OSError), (location.spool / REFUSED).open("a") as file:
            file.write(json.dumps({"refused": str(error), "event": events[0]}, default=str) + "\n")
        return 1
    return 0
