"""MLflow away, slow, locked or failing half-way; drivers killed: nothing waits, nothing is lost, nothing is twice."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.journal import Journal
from cluster.tracking.location import StoreLocation, resolve
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.tracking.writer import replay
from cluster.work import Ended, Outcome, Work

MATRIX = MatrixRun("depth-ab12", "depth", {"arms": 2}, {"dataset": "wave"})
PATIENCE = 120.0
CELLS = [Work(f"hash-{k}", f"cell {k}", {}, {"lr": k}, {"seed": str(k)}) for k in range(3)]
EPOCHS = 5
POINTS = {"val_mae": [(e, 1.0 / e) for e in range(1, EPOCHS + 1)], "test_mae": [(0, 2.0)]}
ALL_FINISHED = {"depth": "FINISHED"} | {cell.name: "FINISHED" for cell in CELLS}


def run_matrix(track: Tracker, until: int | None = None) -> None:
    """A matrix of three cells; with `until`, only its first so many calls."""
    for call in itertools.islice(_calls(track), until):
        call()


def _calls(track: Tracker) -> Iterator[Callable[[], object]]:
    yield lambda: track.matrix_started(CELLS, 1)
    for cell in CELLS:
        yield lambda cell=cell: track.cell_started(cell)  # type: ignore[misc]
        for epoch in range(1, EPOCHS + 1):
            yield lambda cell=cell, e=epoch: track.cell_epoch(cell, {"epoch": e, "val_mae": 1 / e})  # type: ignore[misc]
        yield lambda cell=cell: track.cell_ended(cell, Ended("done", {"test_mae": 2.0}))  # type: ignore[misc]
    yield lambda: track.matrix_ended(Outcome({}, (), None, 1, 0.0))


def abandon(track: Tracker) -> Path:
    """Leave a tracker as a killed process does: nothing said, nothing waited for, its files unlocked."""
    for jobs in (track._later, track._drawing):
        jobs.wait(PATIENCE)
    path = track._journal.path
    assert path is not None
    track._journal.close()
    return path


@pytest.fixture
def away(location: StoreLocation) -> StoreLocation:
    """A server that is not there: connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return resolve(location.spool.parent, f"http://127.0.0.1:{port}")


@pytest.fixture
def mlflow_client(location: StoreLocation) -> Any:
    """The class of MLflow's client, to put faults into; imported before any clock runs."""
    import mlflow

    return mlflow.MlflowClient


def test_a_server_that_is_away_costs_the_caller_nothing(away: StoreLocation, mlflow_client: Any) -> None:
    took = []
    track = Tracker(away, MATRIX)
    for call in _calls(track):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    assert sorted(took)[len(took) // 2] < 0.1  # microseconds, where nothing else runs
    assert not track.flush(PATIENCE)  # gives up after a few attempts, long before
    assert track.problem is not None
    assert away.uri in track.problem
    assert str(away.spool) in track.problem
    assert not track.close(PATIENCE)
    assert not track.close(PATIENCE)
    assert str(away.spool) in track.problem
    [spool] = away.spool.glob("*.jsonl")
    kinds = [json.loads(line)["kind"] for line in spool.read_text().splitlines()]
    assert kinds.count("cell_epoch") == len(CELLS) * EPOCHS
    assert (kinds[0], kinds[-1]) == ("opened", "closed")


def test_what_was_kept_is_replayed_once(away: StoreLocation, location: StoreLocation, database: Any) -> None:
    with Tracker(away, MATRIX) as track:
        run_matrix(track)
    [spool] = away.spool.glob("*.jsonl")
    copy = shutil.copy(spool, spool.with_name("copy"))
    for path in (spool, Path(copy)):
        done = replay(location, path)
        assert (done.replayed, done.refused, done.left, done.problem) == (1, 0, (), None)
        assert not path.exists()
        assert database.runs() == ALL_FINISHED
        assert all(database.points(cell.name) == POINTS for cell in CELLS)
    assert replay(location).replayed == 0


def test_the_next_start_replays_by_itself(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(mlflow_client, "search_runs", _fail)
        with Tracker(location, MATRIX) as track:
            run_matrix(track)
    assert database.runs() == {}
    with Tracker(location, MatrixRun("other", "other")) as track:
        track.record_matrix(tags={"a": "b"})
        assert track.close(PATIENCE)
    assert database.runs() == {**ALL_FINISHED, "other": "FINISHED"}
    assert not list(location.spool.glob("*.jsonl"))


def test_a_server_that_comes_back_gets_everything_while_the_matrix_runs(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracker(location, MATRIX) as track:
        with monkeypatch.context() as broken:
            broken.setattr(mlflow_client, "log_batch", _fail)
            run_matrix(track, until=9)
            assert not track.flush(PATIENCE)
        run_matrix(track)  # the first calls again: a resumed cell says again what it said
        assert track.close(PATIENCE)
        assert track.problem is None
    assert database.runs() == ALL_FINISHED
    assert all(database.points(cell.name) == POINTS for cell in CELLS)


@pytest.mark.parametrize("method", ["create_experiment", "create_run", "log_batch", "set_terminated", "search_runs"])
def test_calls_that_arrive_but_are_not_answered_leave_nothing_twice(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("cluster.tracking.writer.HURRIED_PAUSE", 0.0)
    monkeypatch.setattr("cluster.tracking.writer.ATTEMPTS_WHEN_HURRIED", 10_000)
    whole = getattr(mlflow_client, method)
    calls = itertools.count()

    def unanswered(self: Any, *args: Any, **more: Any) -> Any:
        answer = whole(self, *args, **more)
        if next(calls) % 3 == 0:
            raise TimeoutError("no answer")
        return answer

    monkeypatch.setattr(mlflow_client, method, unanswered)
    with Tracker(location, MATRIX) as track:
        run_matrix(track)
        assert track.close(PATIENCE)
    assert next(calls) >= 1  # at least the first went unanswered
    assert database.runs() == ALL_FINISHED
    assert all(database.points(cell.name) == POINTS for cell in CELLS)
    assert all(database.params(cell.name) == cell.params | {"lr": str(cell.params["lr"])} for cell in CELLS)
    assert database.params("depth") == {"arms": "2"}


@pytest.mark.parametrize("until", [0, 1, 8, 17, 23])
def test_runs_of_a_killed_driver_are_ended_and_then_continued(
    location: StoreLocation, database: Any, until: int
) -> None:
    killed = Tracker(location, MATRIX)
    run_matrix(killed, until)
    killed.flush(PATIENCE)
    abandon(killed)
    with Tracker(location, MatrixRun("other", "other")) as track:  # any matrix ends what others left
        track.record_matrix(tags={"a": "b"})
        assert track.close(PATIENCE)
    assert "RUNNING" not in database.runs().values()
    before = {name: database.run_id(name) for name in database.runs()}
    with Tracker(location, MATRIX) as track:
        run_matrix(track)
        assert track.close(PATIENCE)
    assert database.runs() == {**ALL_FINISHED, "other": "FINISHED"}
    assert before.items() <= {name: database.run_id(name) for name in database.runs()}.items()
    assert all(database.points(cell.name) == POINTS for cell in CELLS)


def test_runs_left_running_without_a_spool_are_ended_by_the_same_matrix(location: StoreLocation, database: Any) -> None:
    killed = Tracker(location, MATRIX)
    run_matrix(killed, 5)
    assert killed.flush(PATIENCE)
    abandon(killed).unlink()  # as on another machine
    assert database.runs() == {"depth": "RUNNING", "cell 0": "RUNNING"}
    with Tracker(location, MATRIX) as track:
        track.matrix_started(CELLS[1:], 1)
        assert track.flush(PATIENCE)
        assert database.runs() == {"depth": "RUNNING", "cell 0": "KILLED"}


def test_a_store_that_hangs_neither_holds_up_the_caller_nor_fills_memory(
    location: StoreLocation, database: Any, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    whole = mlflow_client.search_runs
    monkeypatch.setattr(mlflow_client, "search_runs", lambda *a, **k: goes_on.wait(PATIENCE) and whole(*a, **k))
    monkeypatch.setattr("cluster.tracking.journal.KEPT_IN_MEMORY", 100)
    epochs = 3000
    with Tracker(location, None) as track:
        track.cell_started(CELLS[0])
        began = time.perf_counter()
        for epoch in range(1, epochs + 1):
            track.cell_epoch(CELLS[0], {"epoch": epoch, "val_mae": 1.0})
        assert time.perf_counter() - began < PATIENCE / 4  # it would wait for all of it
        assert not track.flush(0.2)
        assert len(track._journal._memory) == 0
        goes_on.set()
        track.cell_ended(CELLS[0], Ended("done"))
        assert track.close(PATIENCE)
    assert database.points("cell 0") == {"val_mae": [(epoch, 1.0) for epoch in range(1, epochs + 1)]}


def test_a_folder_that_cannot_be_written_is_said(
    location: StoreLocation, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    location.spool.write_text("in the way")
    monkeypatch.setattr(mlflow_client, "search_runs", _fail)
    track = Tracker(location, MATRIX)
    run_matrix(track)
    assert not track.flush(PATIENCE)
    assert "lost" in str(track.problem)
    assert not track.close(PATIENCE)


def test_the_database_is_written_by_one_process_at_a_time(location: StoreLocation, database: Any) -> None:
    assert location.database is not None
    with location.database.with_name("mlflow.db.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        track = Tracker(location, MATRIX)
        run_matrix(track)
        assert not track.flush(1.0)
        assert "another process" in str(track.problem)
        assert database.runs() == {}
    assert track.close(PATIENCE)
    assert database.runs() == ALL_FINISHED


def test_the_spool_of_a_running_process_is_left_alone(location: StoreLocation, database: Any) -> None:
    running = Journal.create(location.spool, {**_header(location), "session": "x"})
    running.append({"kind": "closed", "t": 1, "interrupted": True})
    assert running.path is not None
    done = replay(location)
    assert (done.replayed, done.left) == (0, (running.path,))
    assert "still being written" in str(done.problem)
    running.close()
    assert replay(location).replayed == 1


def test_spool_files_that_are_none_hold_up_nothing(location: StoreLocation, database: Any) -> None:
    location.spool.mkdir()
    for name, text in {"a": "", "b": "no json\n", "c": "[]\n", "d": '{"session": "x"}\n'}.items():
        (location.spool / f"{name}.jsonl").write_text(text)
    torn = Journal.create(location.spool, {**_header(location), "session": "y"})
    torn.append({"kind": "cell_started"})
    assert torn.path is not None
    torn.close()
    with torn.path.open("a") as file:
        file.write('{"kind": "cell_ep')
    with Tracker(location, MATRIX) as track:
        run_matrix(track)
        assert track.close(PATIENCE)
        assert "refused 2 records" in str(track.problem)
    assert database.runs() == ALL_FINISHED
    assert len(replay(location).left) == 4


@pytest.mark.slow
def test_two_matrices_on_one_new_database(tmp_path: Path) -> None:
    drivers = [_this_file("drive", tmp_path, f"matrix {k}") for k in range(2)]
    assert [driver.wait(240) for driver in drivers] == [0, 0]
    database = _Rows(tmp_path / "mlflow.db")
    assert database("select status, count(*) from runs group by 1") == [("FINISHED", 2 + 2 * 40)]
    assert database("select count(*) from metrics") == [(2 * 40 * 4,)]


@pytest.mark.slow
def test_a_driver_killed_at_any_moment_loses_nothing_it_said(tmp_path: Path, location: StoreLocation) -> None:
    """Everything said before SIGKILL is in MLflow after the next start, once, and nothing is left RUNNING."""
    for attempt in range(3):
        driver = _this_file("talk", tmp_path)
        assert driver.stdout is not None
        said = [int(driver.stdout.readline()) for _ in range(200 * (attempt + 1))][-1]
        driver.send_signal(signal.SIGKILL)
        said += len(driver.stdout.read().splitlines())
        driver.wait(60)
        with Tracker(location, MatrixRun("other", "other")) as track:
            track.record_matrix(tags={"a": "b"})
            assert track.close(PATIENCE)
        rows = _Rows(tmp_path / "mlflow.db")
        assert rows("select count(*) from runs where status = 'RUNNING'") == [(0,)]
        points = [step for (step,) in rows("select step from metrics order by 1")]
        assert points == list(range(1, len(points) + 1))
        assert len(points) >= said


class _Rows:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, query: str) -> list[Any]:
        import sqlite3

        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


def _header(location: StoreLocation) -> dict[str, Any]:
    return {"store": location.identity, "experiment": "altformer", "matrix": None, "context": {}}


def _fail(*args: Any, **more: Any) -> Any:
    raise ConnectionError("away")


def _this_file(*arguments: object) -> subprocess.Popen[str]:
    """Another process that does one of the two below."""
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def drive(out: str, name: str) -> None:
    """A matrix of forty cells."""
    track = Tracker(resolve(Path(out)), MatrixRun(name, name))
    for k in range(40):
        cell = Work(f"{name} {k}", f"{name} {k}", {})
        track.cell_started(cell)
        for epoch in (1, 2, 3):
            track.cell_epoch(cell, {"epoch": epoch, "val_mae": 1.0})
        track.cell_ended(cell, Ended("done", {"test_mae": 1.0}))
        time.sleep(0.02)
    track.matrix_ended(Outcome({}, (), None, 1, 0.0))
    assert track.close(200)


def talk(out: str) -> None:
    """Say one epoch after the other, and on standard output which, until killed."""
    track = Tracker(resolve(Path(out)), MATRIX)
    track.matrix_started(CELLS, 1)
    track.cell_started(CELLS[0])
    for epoch in itertools.count(1):
        track.cell_epoch(CELLS[0], {"epoch": epoch, "val_mae": 1.0})
        print(epoch, flush=True)
        time.sleep(0.005)


if __name__ == "__main__":
    {"drive": drive, "talk": talk}[sys.argv[1]](*sys.argv[2:])
