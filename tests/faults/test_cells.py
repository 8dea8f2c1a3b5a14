"""What goes wrong within a cell: damaged checkpoints, a full disk, NaN and infinity, too little memory."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess

import pytest
from ray._private.utils import get_system_memory, get_used_memory

from tests.faults.harness import Matrix, same_results

# Generous: each test runs a matrix two or three times.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

WAIT = 400.0

MODELS = "tests.faults.models:"
SHARED = {"seeds": 2, "epochs": 8}  # as in test_kills.py, so that one undisturbed run serves both


def newest(matrix, cell_hash):
    return max((matrix.cell_folder(cell_hash) / "checkpoints").glob("epoch-*"))


@pytest.mark.fault("checkpoint")
def test_damaged_last_checkpoints_give_way_to_those_before(tmp_path, close, undisturbed, fault_table):
    matrix = Matrix(tmp_path, **SHARED, epoch_seconds=0.5)
    process = close(matrix.start())
    slots = min(2, os.cpu_count() or 1)
    process.wait_until("cells have started", lambda: len(matrix.events("cell_started")) >= slots)
    running = [event["cell"] for event in matrix.events("cell_started")][:slots]
    for cell in running:
        process.wait_for_event("cell_epoch", cell=cell, epoch=3)
    process.kill(number=signal.SIGTERM)
    assert process.wait(WAIT) == 143, process.output

    damaged = {}
    for cell, name, damage in zip(running, ("model.safetensors", "state.pt"), (truncate, flip_a_bit), strict=False):
        path = newest(matrix, cell)
        damage(path / name)
        damaged[cell] = path
    matrix.hurry()
    again = close(matrix.start())
    assert again.wait(WAIT) == 0, again.output
    for cell, path in damaged.items():
        last = int(path.name[-4:])
        assert f"WARNING checkpoint {path} is damaged: using the one before" in matrix.log(cell)
        assert [attempt.resumed_after for attempt in matrix.attempts(cell)] == [0, last - 1], matrix.log(cell)
    same_results(matrix.records(), undisturbed(matrix))
    fault_table.row(
        "the last checkpoint of one cell truncated, of another a bit flipped, while the matrix is stopped",
        "the sums notice, the one before is used and the log says so; all four cells bit-equal",
        epochs_trained_again=len(damaged),
    )


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many megabytes and returns its folder; the same again changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(megabytes):
        remount = "remount," if folder.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{remount}size={megabytes}m", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small file system cannot be mounted here: {getattr(error, 'stderr', None) or error}")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_whole(matrix):
    """Nothing below the matrix's folder is half written, nor left over from writing."""
    for path in matrix.out.rglob("*.json"):
        json.loads(path.read_text())
    for path in matrix.out.rglob("log.txt"):
        assert path.read_bytes()[-1:] in (b"\n", b""), path
    hidden = [path for path in matrix.out.rglob(".*") if path.name not in (".lock", ".run.lock")]
    assert hidden == [], "nothing half written stays"


@pytest.mark.fault("disk")
def test_a_cell_whose_checkpoint_does_not_fit_fails_alone(tmp_path, close, undisturbed, fault_table, small_disk):
    heavy = {"model": {"class": MODELS + "Heavy", "megabytes": 40}}
    matrix = Matrix(tmp_path, **SHARED, arms={"low": {"lr": 1e-3}, "high": {"lr": 3e-3}, "heavy": heavy})
    matrix.out = small_disk(64) / "runs"
    process = close(matrix.start())
    assert process.wait(WAIT) == 1, process.output
    records, calm = matrix.records(), undisturbed(Matrix(tmp_path / "calm", **SHARED))
    same_results({cell: records[cell] for cell in calm}, calm)
    for seed in range(2):
        record = records["heavy", seed]
        assert (record["status"], record["fault"]) == ("failed", "disk")
        assert "disk full: no space left in" in record["error"]
    assert "disk full" in process.output
    assert (matrix.report_folder / "report.md").is_file()
    assert_whole(matrix)
    cells = {(at["arm"], at["seed"]): at["cell_hash"] for at in matrix.plan}
    before = {cell: matrix.attempts(cells[cell]) for cell in calm}

    small_disk(512)
    again = close(matrix.start())
    assert again.wait(WAIT) == 0, again.output
    assert matrix.records()["heavy", 0]["status"] == "done"
    assert {cell: matrix.attempts(cells[cell]) for cell in calm} == before, "finished cells stay as they are"
    fault_table.row(
        "two of six cells have checkpoints that do not fit on the disk",
        'both fail with "disk full", no half-written file stays, the others are bit-equal, the report comes; with '
        "more room the same command trains these two alone",
    )


@pytest.mark.fault("disk")
def test_a_disk_that_fills_while_cells_train_costs_no_epoch(tmp_path, close, undisturbed, fault_table, small_disk):
    matrix = Matrix(tmp_path, **SHARED, epoch_seconds=0.5)
    disk = small_disk(64)
    matrix.out = disk / "runs"
    process = close(matrix.start(mlflow=True))
    cell = process.wait_for_event("cell_epoch", epoch=3)["cell"]
    filled = fill(disk / "others")
    assert process.wait(WAIT) == 1, process.output
    assert "disk full" in process.output and "Traceback" not in process.output
    assert_whole(matrix)
    (disk / "others").unlink()
    matrix.hurry()
    again = close(matrix.start(mlflow=True))
    assert again.wait(WAIT) == 0, again.output
    assert list(matrix.mlflow_runs().values()).count("FINISHED") == len(matrix.mlflow_runs()) >= 4
    second = matrix.attempts(cell)[-1]
    same_results(matrix.records(), undisturbed(matrix))
    assert second.resumed_after >= 3
    fault_table.row(
        "the disk is filled by something else while cells train",
        "no file is half written, exit 1; when there is room the same command goes on after the last epochs saved; all "
        "four cells bit-equal, in MLflow finished and once",
        megabytes_filled=filled / 2**20,
        resumed_after_epoch=second.resumed_after,
    )


def fill(path):
    """Write until nothing fits any more, not even a few bytes; returns how much it was."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        return file.tell()


@pytest.mark.fault("nan")
def test_cells_that_diverge_are_shown_and_never_averaged(tmp_path, close, undisturbed, fault_table):
    step, per_epoch = 6, 4
    arms = {
        "low": {"lr": 1e-3},
        "high": {"lr": 3e-3},
        "nan": {"model": {"class": MODELS + "NanAtStep", "step": step}},
        "inf": {"model": {"class": MODELS + "InfAtStep", "step": step}},
        "unsteady": {"model": {"class": MODELS + "NanForSeed", "step": step, "seed": 1}},
    }
    matrix = Matrix(tmp_path, **SHARED, arms=arms)
    process = close(matrix.start())
    assert process.wait(WAIT) == 0, process.output
    records, calm = matrix.records(), undisturbed(Matrix(tmp_path / "calm", **SHARED))
    same_results({cell: records[cell] for cell in calm}, calm)
    diverged = {cell for cell, record in records.items() if record["status"] == "diverged"}
    assert diverged == {("nan", 0), ("nan", 1), ("inf", 0), ("inf", 1), ("unsteady", 1)}
    for cell in diverged:
        record = records[cell]
        assert (record["epochs"], len(record["curve"]), record["test"]) == (step // per_epoch, step // per_epoch, None)
        assert "NaN" not in json.dumps(record)

    assert "5 diverged" in process.output
    with (matrix.report_folder / "cells.csv").open(newline="") as file:
        rows = {(row["arm"], int(row["seed"])): row for row in csv.DictReader(file)}
    assert {cell for cell, row in rows.items() if row["status"] == "diverged"} == diverged
    shown = dict(re.findall(r"^(low|high|nan|inf|unsteady) .*?(\d/2  +\S+)", process.output, re.MULTILINE))
    shown = {arm: text.split() for arm, text in shown.items()}
    assert shown["nan"] == shown["inf"] == ["0/2", "-"]
    only = records["unsteady", 0]["test"]["all"]["mae"]
    assert shown["unsteady"][0] == "1/2" and float(shown["unsteady"][1]) == pytest.approx(only, abs=6e-4)
    fault_table.row(
        "the forecast is NaN, or infinite, from a step in epoch 2 on: both seeds of two arms, one seed of a third",
        "diverged in that epoch; arms are shown without a mean, or with that of the other seed; the others bit-equal",
        cells_diverged=len(diverged),
    )


@pytest.mark.fault("memory")
def test_too_little_memory_is_tried_once_more_with_a_double_share(tmp_path, close, undisturbed, fault_table):
    said = "CUDA out of memory. Tried to allocate 20.00 MiB."
    device = {"class": MODELS + "OutOfMemoryAtStep", "step": 6, "message": said}
    host = {"class": MODELS + "OutOfHostMemoryAtStep", "step": 6, "message": "no room on the host"}
    arms = {
        "low": {"lr": 1e-3},
        "once": {"lr": 1e-3, "model": device | {"times": 1}},
        "always": {"model": device | {"message": said + " Always."}},
        "host": {"model": host},
    }
    matrix = Matrix(tmp_path, seeds=1, epochs=8, arms=arms)
    process = close(matrix.start())
    assert process.wait(WAIT) == 1, process.output
    records = matrix.records()
    cells = {at["arm"]: at["cell_hash"] for at in matrix.plan}
    assert {arm: record["status"] for (arm, _), record in records.items()} == {
        "low": "done",
        "once": "done",
        "always": "failed",
        "host": "failed",
    }
    same_results({("low", 0): records["once", 0]}, {("low", 0): records["low", 0]})
    for arm in ("once", "always", "host"):
        [retried] = matrix.events("cell_retried", cell=cells[arm])
        assert (retried["fault"], retried["retries"]) == ("memory", 1), retried
        assert [attempt.resumed_after for attempt in matrix.attempts(cells[arm])] == [0, 1], matrix.log(cells[arm])
    for arm in ("always", "host"):
        record = records[arm, 0]
        assert record["fault"] == "memory"
        assert "fewer trials per device" in record["error"], record["error"]
    assert "fewer trials per device" in process.output
    fault_table.row(
        "torch's error for a full GPU (once, always) and Python's for a full host (always) in epoch 2",
        "classified as memory; one more attempt from the last checkpoint, with twice the share; then failed, with "
        "advice. What was done in two attempts is bit-equal to the same model in one",
        retries=len(matrix.events("cell_retried")),
    )


@pytest.mark.fault("memory")
def test_a_cell_that_takes_the_memory_of_its_node_is_ended_alone(tmp_path, close, undisturbed, fault_table):
    used, total, room = get_used_memory(), get_system_memory(), 5 * 2**30  # Ray and two idle cells take up to three
    if total - used < 1.5 * room:
        pytest.skip("needs 7.5 GiB of free memory")
    greedy = {"class": MODELS + "TakesMemoryAtStep", "step": 6, "megabytes": 8192}
    arms = {"low": {"lr": 1e-3}, "once": {"lr": 1e-3, "model": greedy | {"times": 1}}, "always": {"model": greedy}}
    matrix = Matrix(tmp_path, seeds=1, epochs=8, arms=arms)
    monitor = {"RAY_memory_usage_threshold": f"{(used + room) / total:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    process = close(matrix.start(env=monitor))
    assert process.wait(WAIT) == 1, process.output
    records = matrix.records()
    assert {arm: record["status"] for (arm, _), record in records.items()} == {
        "low": "done",
        "once": "done",
        "always": "failed",
    }
    same_results({("low", 0): records["once", 0]}, {("low", 0): records["low", 0]})
    retried = {(event["name"], event["fault"], event["retries"]) for event in matrix.events("cell_retried")}
    assert {("once seed 0", "memory", 1), ("always seed 0", "memory", 1)} <= retried, retried
    record = records["always", 0]
    assert record["fault"] == "memory"
    assert "low on memory" in record["error"] and "fewer trials per device" in record["error"], record["error"]
    fault_table.row(
        "two of three models take more and more memory of the host, one of them in its first attempt only, until Ray's "
        "monitor ends their processes",
        "classified as memory; one more attempt with twice the share, then failed, with advice; the others bit-equal",
        retries=len(retried),
    )
