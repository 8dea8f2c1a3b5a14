"""What comes late: cells tried again, spools replayed behind a later run, runs that a slow store makes twice."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.journal import Journal
from cluster.tracking.later import Later
from cluster.tracking.location import StoreLocation, resolve
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.tracking.values import why
from cluster.tracking.writer import replay
from cluster.work import Ended, Fault, Outcome, Work

MATRIX = MatrixRun("depth-ab12", "depth", {"arms": 2})
PATIENCE = 120.0
A, B = (Work(f"hash-{name}", name, {}, {"lr": 1}) for name in "ab")
DONE = Outcome({}, (), None, 1, 0.0)


@pytest.fixture
def mlflow_client(location: StoreLocation) -> Any:
    import mlflow

    return mlflow.MlflowClient


@pytest.fixture
def away(location: StoreLocation) -> StoreLocation:
    """A server that is not there: connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return resolve(location.spool.parent, f"http://127.0.0.1:{port}")


def train(track: Tracker, cell: Work, epochs: range, status: str | None = "done", **how: Any) -> None:
    track.cell_started(cell)
    for epoch in epochs:
        track.cell_epoch(cell, {"epoch": epoch, "val_mae": 1.0 / epoch})
    if status is not None:
        track.cell_ended(cell, Ended(status, {"test_mae": 2.0} if status == "done" else None, **how))


def abandoned(track: Tracker) -> Path:
    """The spool that a tracker leaves when its process is killed."""
    for jobs in (track._later, track._drawing):
        jobs.wait(PATIENCE)
    path = track._journal.path
    assert path is not None
    track._journal.close()
    return path


def test_a_cell_that_is_tried_again_keeps_its_run_and_says_how_often(location: StoreLocation, database: Any) -> None:
    with Tracker(location, MATRIX) as track:
        track.matrix_started([A, B], 1)
        train(track, A, range(1, 4), None)
        track.cell_retried(A, Fault("died", "its process is gone"), 1)
        assert track.flush(PATIENCE)
        assert database.runs() == {"depth": "RUNNING", "a": "RUNNING"}
        run_id = database.run_id("a")
        train(track, A, range(3, 6), "done", retries=1)
        train(track, B, range(1, 2), "failed", error="Traceback\nOutOfMemoryError", fault="memory", retries=2)
        track.matrix_ended(DONE)
        assert track.close(PATIENCE)
    assert database.runs() == {"depth": "FINISHED", "a": "FINISHED", "b": "FAILED"}
    assert database.run_id("a") == run_id
    assert database.points("a") == {"val_mae": [(e, 1.0 / e) for e in range(1, 6)], "test_mae": [(0, 2.0)]}
    assert database.tags("a")["retries"] == "1"
    assert "fault" not in database.tags("a")
    assert (database.tags("b")["fault"], database.tags("b")["retries"]) == ("memory", "2")

    with Tracker(location, MATRIX) as track:  # and one that then goes well has no such mark any more
        train(track, B, range(1, 3))
        assert track.close(PATIENCE)
    assert database.runs()["b"] == "FINISHED"
    assert not {"fault", "retries", "error"} & database.tags("b").keys()


def test_a_cell_that_fails_before_it_starts_has_a_run_too(location: StoreLocation, database: Any) -> None:
    with Tracker(location, MATRIX) as track:
        track.matrix_started([A], 1)
        track.cell_ended(A, Ended("failed", error="the actor died in its creation task", fault="died"))
        assert track.close(PATIENCE)
        assert track.problem is None
    assert database.runs()["a"] == "FAILED"
    assert database.tags("a")["fault"] == "died"
    assert database.params("a") == {"lr": "1"}


@pytest.mark.parametrize("said", [1, 3, 6, 8])
def test_a_spool_replayed_behind_a_later_run_changes_nothing_that_run_has_said(
    location: StoreLocation, away: StoreLocation, database: Any, said: int
) -> None:
    """As when the first driver was killed with the server away, and somebody syncs while the second one runs."""
    killed = Tracker(away, MATRIX)
    calls = [
        lambda: killed.matrix_started([A, B], 1),
        lambda: killed.cell_started(A),
        *(lambda e=e: killed.cell_epoch(A, {"epoch": e, "val_mae": 1 / e}) for e in (1, 2)),  # type: ignore[misc]
        lambda: killed.cell_ended(A, Ended("failed", error="boom")),
        lambda: killed.cell_started(B),
        lambda: killed.cell_epoch(B, {"epoch": 1, "val_mae": 1.0}),
        lambda: killed.matrix_ended(Outcome({}, (B,), "SIGTERM", 1, 0.0)),
    ]
    for call in calls[:said]:
        call()
    spool = abandoned(killed)
    with Tracker(location, MATRIX) as track:
        track.matrix_started([A, B], 1)
        train(track, A, range(3, 5))  # from the checkpoint of epoch 2
        train(track, B, range(2, 3), None)
        assert track.flush(PATIENCE)
        done = replay(location, spool)
        assert (done.replayed, done.refused, done.problem) == (1, 0, None)
        assert database.runs() == {"depth": "RUNNING", "a": "FINISHED", "b": "RUNNING"}
        train(track, B, range(3, 4))
        track.matrix_ended(DONE)
        assert track.close(PATIENCE)
    assert database.runs() == {"depth": "FINISHED", "a": "FINISHED", "b": "FINISHED"}
    earlier = [(e, 1.0 / e) for e in (1, 2) if said > e + 1]
    assert database.points("a")["val_mae"] == [*earlier, (3, 1.0 / 3), (4, 1.0 / 4)]
    assert database.points("b")["val_mae"][-2:] == [(2, 0.5), (3, 1.0 / 3)]
    assert "error" not in database.tags("a")


@pytest.mark.parametrize("replayed", ["before", "after"])
def test_a_matrix_whose_driver_was_killed_after_its_last_cell_is_finished_by_one_with_nothing_to_run(
    location: StoreLocation, away: StoreLocation, database: Any, replayed: str
) -> None:
    """What the killed driver left is brought over before the other's own records, or by somebody else behind them."""
    killed = Tracker(location if replayed == "before" else away, MATRIX)
    killed.matrix_started([A], 1)
    train(killed, A, range(1, 3))
    if replayed == "before":
        assert killed.flush(PATIENCE)
    spool = abandoned(killed)
    with Tracker(location, MATRIX) as track:
        if replayed == "before":
            assert replay(location, spool).problem is None
            assert database.runs() == {"depth": "KILLED", "a": "FINISHED"}
        track.record_finished(A, [{"epoch": e, "val_mae": 1.0 / e} for e in (1, 2)], {"test_mae": 2.0})
        track.record_matrix(metrics={"mean": 2.0}, done=True)
        assert track.close(PATIENCE)
    if replayed == "after":
        assert replay(location, spool).problem is None
    assert database.runs() == {"depth": "FINISHED", "a": "FINISHED"}
    assert database.tags("depth")["status"] == "done"
    assert database.points("a")["val_mae"] == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_a_slow_store_makes_after_all_is_not_there_twice(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """The answer to the creation of the parent (0) or cell (1) does not come in time, and the run does, later."""
    monkeypatch.setattr("cluster.tracking.writer.HURRIED_PAUSE", 0.0)
    create = mlflow_client.create_run
    asked: list[Any] = []

    def late(self: Any, *args: Any, **more: Any) -> Any:
        asked.append(args)
        if len(asked) == which + 1:
            raise TimeoutError("no answer")
        made = create(self, *args, **more)
        if len(asked) == which + 2:
            create(self, *asked[which])  # now the store has come to it
        return made

    monkeypatch.setattr(mlflow_client, "create_run", late)
    with Tracker(location, MATRIX) as track:
        track.matrix_started([A], 1)
        train(track, A, range(1, 3))
        track.matrix_ended(DONE)
        assert track.close(PATIENCE)
    assert len(asked) == 3
    shown = database.rows("select name, status from runs where lifecycle_stage = 'active'")
    assert sorted(shown) == [("a", "FINISHED"), ("depth", "FINISHED")]
    [(points,)] = database.rows("select count(*) from metrics join runs using (run_uuid) where name = 'a'")
    assert points == 3


def test_what_a_slow_store_did_not_take_in_time_is_said(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    whole = mlflow_client.search_runs
    monkeypatch.setattr(mlflow_client, "search_runs", lambda *a, **k: goes_on.wait(PATIENCE) and whole(*a, **k))
    track = Tracker(location, MATRIX)
    train(track, A, range(1, 3))
    assert track.problem is None  # it has all the time there is
    assert not track.close(0.5)
    assert "more time" in str(track.problem)
    assert f"`altformer sync --out {location.spool.parent}`" in str(track.problem)
    assert str(track._journal.path) in str(track.problem)
    goes_on.set()
    until = time.monotonic() + PATIENCE
    while track.problem and time.monotonic() < until:
        time.sleep(0.02)
    assert database.runs()["a"] == "FINISHED"


def test_records_in_no_file_are_called_lost(
    away: StoreLocation, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full and the server away."""
    track = Tracker(away, MATRIX)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    train(track, A, range(1, 3))
    assert not track.close(PATIENCE)
    monkeypatch.undo()
    assert "6 records are in no file" in str(track.problem)  # started, two epochs, ended, its files, closed


def test_a_replay_tries_a_store_that_is_away_only_once(
    away: StoreLocation, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {"store": away.identity, "experiment": "altformer", "matrix": None, "context": {}}
    for session in "xyz":
        journal = Journal.create(away.spool, {**header, "session": session})
        journal.append({"kind": "cell_started", "t": 1, "cell": "a", "name": "a", "tags": {}, "params": {}})
        journal.close()
    (away.spool / "0.jsonl").write_text("no spool\n")
    tried: list[None] = []
    look_up = mlflow_client.get_experiment_by_name
    monkeypatch.setattr(mlflow_client, "get_experiment_by_name", lambda *args: (tried.append(None), look_up(*args))[1])
    done = replay(away)
    assert (done.replayed, len(done.left), len(tried)) == (0, 4, 1), done
    assert "Connection refused" in str(done.problem)
    assert "\n" not in str(done.problem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "API request to http://h:9/api failed with exception HTTPConnectionPool(host='h', port=9): Max retries "
            "exceeded with url: /api (Caused by NewConnectionError(\"HTTPConnection(host='h', port=9): Failed to "
            'establish a new connection: [Errno 111] Connection refused"))',
            "Failed to establish a new connection: [Errno 111] Connection refused",
        ),
        ("x (Caused by ResponseError('too many 502 error responses'))", "too many 502 error responses"),
        (
            "(sqlite3.OperationalError) database is locked\n[SQL: ...]",
            "ValueError: (sqlite3.OperationalError) database is locked",
        ),
        ("", "ValueError"),
    ],
)
def test_an_error_is_one_line(text: str, expected: str) -> None:
    assert why(ValueError(text)) == expected


def test_stopped_jobs_end_with_the_one_that_is_being_done() -> None:
    """A thread that still draws when Python ends can abort the process."""
    jobs, goes_on, done = Later(), threading.Event(), []
    for number in range(3):
        jobs.do(lambda number=number: (goes_on.wait(PATIENCE), done.append(number)))  # type: ignore[misc]
    assert not jobs.wait(0.05)
    threading.Timer(0.3, goes_on.set).start()
    jobs.stop(PATIENCE)
    assert (done, jobs.undone) == ([0], 2)
    assert jobs._thread is not None
    assert not jobs._thread.is_alive()
