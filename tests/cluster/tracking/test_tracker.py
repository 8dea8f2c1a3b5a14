"""What a matrix leaves in MLflow."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.location import StoreLocation
from cluster.tracking.no_tracker import PARENT, Artifact, MatrixRun, NoTracker
from cluster.tracking.tracker import Tracker
from cluster.tracking.values import PARAM_LENGTH, TAG_LENGTH, clean_key
from cluster.work import Ended, Outcome, Work

MATRIX = MatrixRun("depth-ab12", "depth", {"arms": 2}, {"dataset": "wave", "git_commit": "c0ffee"})
PATIENCE = 120.0  # seconds; the first contact imports MLflow, on a busy machine slowly


def work(name: str, **more: Any) -> Work:
    return Work(key=f"hash-of-{name}", name=name, payload={}, **more)


def outcome(left: tuple[Work, ...] = (), interrupted: str | None = None, **ended: str) -> Outcome:
    return Outcome({name: Ended(status) for name, status in ended.items()}, left, interrupted, 1, 0.0)


def only_test(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key.startswith("test_")}


def tracker(location: StoreLocation, matrix: MatrixRun | None = MATRIX, **more: Any) -> Tracker:
    return Tracker(location, matrix, final_metrics=only_test, **more)


def run_cell(tracker: NoTracker, cell: Work, epochs: Iterable[int], status: str | None = "done", **ended: Any) -> None:
    tracker.cell_started(cell)
    for epoch in epochs:
        tracker.cell_epoch(cell, {"epoch": epoch, "val_mae": 10.0 - epoch, "lr": 0.001})
    if status is not None:
        tracker.cell_ended(cell, Ended(status, **ended))


def test_cell_is_recorded_with_all_that_is_known_of_it(location: StoreLocation, database: Any, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "loss.png").write_text("curve")
    (tmp_path / "config.yaml").write_text("seed: 0")
    cell = work("a seed 0", params={"lr": 1e-3, "depth": None, "bf16": False}, tags={"arm": "a", "git_commit": "f00"})
    files: list[Artifact] = [(tmp_path / "config.yaml", ""), (tmp_path / "plots", "plots")]
    with tracker(location, cell_artifacts=lambda work, status, result: files) as track:
        track.matrix_started([cell], 1)
        run_cell(track, cell, (1, 2), result={"status": "done", "test_mae": 3.5, "val_mae": 8.0})
        track.matrix_ended(outcome(a="done"))
        track.record_matrix(
            metrics={"best": 3.5}, tags={"verdict": "better"}, artifacts=[(tmp_path / "config.yaml", "")]
        )
        assert track.flush(PATIENCE)
        assert (track.run_id(cell.key), track.run_id(PARENT)) == (database.run_id("a seed 0"), database.run_id("depth"))
    assert track.problem is None
    assert database.runs() == {"depth": "FINISHED", "a seed 0": "FINISHED"}
    assert database.points("a seed 0") == {
        "val_mae": [(1, 9.0), (2, 8.0)],
        "lr": [(1, 0.001), (2, 0.001)],
        "test_mae": [(0, 3.5)],
    }
    assert database.params("a seed 0") == {"lr": "0.001", "bf16": "False"}
    tags = database.tags("a seed 0")
    assert (
        tags.items()
        >= {
            "arm": "a",
            "git_commit": "f00",
            "mlflow.source.git.commit": "f00",
            "cell_hash": cell.key,
            "status": "done",
            "mlflow.parentRunId": database.run_id("depth"),
        }.items()
    )
    assert database.points("depth") == {"best": [(0, 3.5)]}
    assert database.params("depth") == {"arms": "2"}
    assert database.tags("depth").items() >= {"verdict": "better", "dataset": "wave", "status": "done"}.items()
    stored = {p.name: p.read_text() for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file()}
    assert stored == {"config.yaml": "seed: 0", "loss.png": "curve"}
    assert not list(location.spool.glob("*.jsonl"))


def test_statuses(location: StoreLocation, database: Any) -> None:
    expected = {"done": "FINISHED", "stopped": "KILLED", "diverged": "FINISHED", "failed": "FAILED"}
    expected |= {"interrupted": "KILLED"}
    cells = {status: work(status) for status in expected}
    with tracker(location) as track:
        track.matrix_started(list(cells.values()), 1)
        for status, cell in cells.items():
            run_cell(
                track, cell, (1,), status, error="Traceback ...\nZeroDivisionError" if status == "failed" else None
            )
        run_cell(track, work("lost"), (1,), status=None)
        assert track.flush(PATIENCE)
        assert database.runs() == {**expected, "lost": "RUNNING", "depth": "RUNNING"}
        track.close(PATIENCE)
    assert database.runs() == {**expected, "lost": "KILLED", "depth": "KILLED"}
    assert {name: database.tags(name)["status"] for name in expected} == {name: name for name in expected}
    assert {name for name in expected if database.tags(name).get("diverged") == "true"} == {"diverged"}
    assert {name for name in expected if "error" in database.tags(name)} == {"failed"}
    assert database.tags("failed")["error"].endswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (outcome(a="done", b="diverged", c="stopped"), "FINISHED"),
        (outcome(a="done", b="failed"), "FAILED"),
        (outcome(a="done", interrupted="SIGINT"), "KILLED"),
        (outcome((work("b"),), a="failed"), "KILLED"),
    ],
)
def test_status_of_the_matrix(location: StoreLocation, database: Any, ended: Outcome, expected: str) -> None:
    with tracker(location) as track:
        track.matrix_started([], 1)
        track.matrix_ended(ended)
        assert track.close(PATIENCE)
    assert database.runs() == {"depth": expected}


def test_a_restarted_matrix_goes_on_in_its_runs(location: StoreLocation, database: Any) -> None:
    first, second = work("a", params={"lr": 1}), work("b")
    with tracker(location) as track:
        track.matrix_started([first, second], 2)
        run_cell(track, first, (1, 2), result={"test_mae": 1.0})
        run_cell(track, second, (1, 2), "failed", error="boom")
        track.matrix_ended(outcome(a="done", b="failed"))
        assert track.close(PATIENCE)
    ids = {name: database.run_id(name) for name in ("a", "b", "depth")}
    for _ in range(2):
        with tracker(location) as track:
            track.record_finished(first, [{"epoch": 1, "val_mae": 9.0}], {"test_mae": 1.0})
            track.matrix_started([second], 2)
            # It resumes at the checkpoint of epoch 1, so epoch 2 is reported again, and by another machine.
            track.cell_started(Work(second.key, second.name, {}, params={"lr": 2}))
            track.cell_epoch(second, {"epoch": 2, "val_mae": 8.1, "lr": 0.001})
            track.cell_epoch(second, {"epoch": 3, "val_mae": 7.0, "lr": 0.001})
            track.cell_ended(second, Ended("done", {"test_mae": 2.0}))
            track.matrix_ended(outcome(a="done", b="done"))
            assert track.close(PATIENCE)
    assert database.runs() == {"a": "FINISHED", "b": "FINISHED", "depth": "FINISHED"}
    assert {name: database.run_id(name) for name in ids} == ids
    assert database.points("a")["val_mae"] == [(1, 9.0), (2, 8.0)]
    assert database.points("b") == {
        "val_mae": [(1, 9.0), (2, 8.0), (3, 7.0)],
        "lr": [(1, 0.001), (2, 0.001), (3, 0.001)],
        "test_mae": [(0, 2.0)],
    }
    assert "error" not in database.tags("b")


def test_finished_cells_are_recorded_once_and_say_where_they_ran(location: StoreLocation, database: Any) -> None:
    curve = [{"epoch": epoch, "val_mae": 1.0 / epoch} for epoch in range(1, 1501)]
    for _ in range(2):
        with tracker(location) as track:
            track.record_finished(
                work("a"), curve, {"test_mae": 2.5}, reused_from="fusion-cd34", started=1e9, ended=1e9 + 60
            )
            track.record_finished(work("b"), curve[:3], status="stopped", artifacts=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
            assert track.flush(PATIENCE)
            assert track.run_id(work("a").key) == database.run_id("a")
    assert database.runs() == {"depth": "FINISHED", "a": "FINISHED", "b": "KILLED"}
    assert database.points("a") == {
        "val_mae": [(epoch, 1.0 / epoch) for epoch in range(1, 1501)],
        "test_mae": [(0, 2.5)],
    }
    assert database.tags("a")["reused_from"] == "fusion-cd34"
    assert "reused_from" not in database.tags("b")
    times = database.rows("select start_time, end_time from runs where name = 'a'")
    assert times == [(1_000_000_000_000, 1_000_000_060_000)]
    assert database.rows("select start_time > 1000000060000 from runs where name = 'depth'") == [(1,)]


def test_matrix_statistics_can_be_added_to_later(location: StoreLocation, database: Any) -> None:
    for cells, mean in ((3, 4.0), (3, 4.5), (5, 3.9)):
        with tracker(location) as track:
            track.record_matrix(metrics={"mean": mean}, step=cells)
            assert track.close(PATIENCE)
    assert database.points("depth") == {"mean": [(3, 4.0), (5, 3.9)]}


def test_single_runs_have_no_parent(location: StoreLocation, database: Any) -> None:
    for _ in range(2):
        with tracker(location, None) as track:
            run_cell(track, work("alone"), (1, 2))
            track.record_matrix(metrics={"nothing": 1.0})
            assert track.close(PATIENCE)
    assert database.runs() == {"alone": "FINISHED"}
    assert database.points("alone")["val_mae"] == [(1, 9.0), (2, 8.0)]
    assert "mlflow.parentRunId" not in database.tags("alone")


def test_more_than_one_call_carries(location: StoreLocation, database: Any) -> None:
    metrics = {f"m{k}": float(k) for k in range(2345)}
    params = {f"p{k}": "ü" * 5000 for k in range(234)}
    tags = {f"t{k}": "t" for k in range(234)}
    with tracker(location, None) as track:
        cell = work("wide", params=params, tags=tags)
        track.cell_started(cell)
        track.cell_epoch(cell, {"epoch": 1, **metrics})
        track.cell_ended(cell, Ended("done"))
        assert track.close(PATIENCE)
    assert database.points("wide") == {key: [(1, value)] for key, value in metrics.items()}
    assert database.params("wide") == params
    assert database.tags("wide").items() >= tags.items()


def test_awkward_names_and_values(location: StoreLocation, database: Any) -> None:
    names = ["<b>&_../x", "../../etc", "a//b", "", ".", "umlaut ü", "=1+1", "new\nline", "x" * 400, "\udcff"]
    cell = Work(
        key="k",
        name="=<b>&\n_../ \x00",
        payload={},
        params={name: name for name in names},
        tags={name: name for name in names} | {"long": "y" * 20_000},
    )
    with tracker(location, None) as track:
        track.cell_started(cell)
        values = {"nan": math.nan, "inf": math.inf, "text": "no number", "none": None, "list": [1], "true": True}
        track.cell_epoch(cell, {"epoch": 1, "a<b": 1, **values})
        track.cell_epoch(cell, {"no": "epoch"})
        track.cell_ended(cell, Ended("done"))
        assert track.close(PATIENCE)
    assert track.problem is None
    [name] = database.runs()
    assert name == "=<b>& _../"
    points = database.points(name)
    assert points.pop(clean_key("a<b")) == [(1, 1.0)]
    assert math.isnan(points.pop("nan")[0][1])
    assert points == {"inf": [(1, sys.float_info.max)], "true": [(1, 1.0)]}
    params = database.params(name)
    assert params.pop(clean_key("\udcff")) == "?"
    assert params == {clean_key(n): n for n in names if n != "\udcff"}
    tags = database.tags(name)
    assert tags[clean_key("<b>&_../x")] == "<b>&_../x"
    assert len(tags["long"]) == TAG_LENGTH > PARAM_LENGTH


def test_a_file_that_cannot_be_stored_holds_up_nothing(location: StoreLocation, database: Any, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    files: list[Artifact] = [(tmp_path / "gone", ""), (tmp_path / "there", "../../up/<b>")]
    with tracker(location, cell_artifacts=lambda *args: files) as track:
        run_cell(track, work("a"), (1,), result={"test_mae": 1.0})
        assert track.close(PATIENCE)
    assert database.runs()["a"] == "FINISHED"
    assert database.points("a")["test_mae"] == [(0, 1.0)]
    [stored] = [p for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file()]
    assert stored.parts[-4:] == ("artifacts", "up", "_b_", "there")


def test_drawing_plots_does_not_hold_up_the_driver(location: StoreLocation, database: Any) -> None:
    drawn = threading.Event()
    with tracker(location, cell_artifacts=lambda *args: drawn.wait(PATIENCE) and []) as track:
        run_cell(track, work("a"), (1,), result={"test_mae": 1.0})
        assert track.flush(PATIENCE)  # the call has returned, the plot is not drawn: no number waits for it
        assert database.runs()["a"] == "FINISHED"
        assert database.points("a")["test_mae"] == [(0, 1.0)]
        drawn.set()
        assert track.close(PATIENCE)


def test_plots_that_take_too_long_are_left_out_and_counted(
    location: StoreLocation, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.tracking.tracker.LONGEST_JOB", 0.1)
    drawn = threading.Event()
    track = tracker(location, cell_artifacts=lambda *args: drawn.wait(PATIENCE) and [])
    track.matrix_started([], 1)
    for name in "abc":
        run_cell(track, work(name), (1,))
    track.matrix_ended(outcome(a="done"))
    assert track.flush(PATIENCE)
    assert not track.close(0.1)
    assert "files of 3 cells" in str(track.problem)
    drawn.set()
    assert database.runs() == {"depth": "FINISHED", "a": "FINISHED", "b": "FINISHED", "c": "FINISHED"}


def test_a_run_deleted_in_mlflow_does_not_hold_up_the_others(location: StoreLocation, database: Any) -> None:
    with tracker(location) as track:
        track.matrix_started([], 2)
        for name in "ab":
            run_cell(track, work(name), (1,), None)
        assert track.flush(PATIENCE)
        import mlflow

        mlflow.MlflowClient(location.uri).delete_run(database.run_id("a"))
        for name in "ab":
            run_cell(track, work(name), (), "done", result={"test_mae": 1.0})
        assert track.flush(PATIENCE)
        assert "MLflow refused" in str(track.problem)
        assert "refused.json" in str(track.problem)
        track.matrix_ended(outcome(a="done", b="done"))
    assert database.points("b")["test_mae"] == [(0, 1.0)]
    assert database.runs()["b"] == "FINISHED"


def test_the_one_that_records_nothing_has_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, Any]:
        return {n: inspect.signature(m) for n, m in inspect.getmembers(kind, callable) if not n.startswith("_")}

    assert methods(NoTracker) == methods(Tracker)
    nothing = NoTracker()
    with nothing as track:
        run_cell(track, work("a"), (1,))
        track.record_finished(work("a"), [])
        track.record_matrix(metrics={"a": 1})
    assert (nothing.flush(), nothing.close(), nothing.run_id("a"), nothing.url()) == (True, True, None, None)
    assert (nothing.problem, nothing.run_id(PARENT)) == (None, None)


def test_importing_it_imports_neither_mlflow_nor_ray_nor_torch() -> None:
    code = "import sys, cluster.tracking.tracker; "
    code += "print(sorted({'mlflow', 'ray', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
