from __future__ import annotations

import errno
import fcntl
import importlib
import json
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from altformer.config import Config
from altformer.errors import UserError
from altformer.training.context import BareContext
from cluster.errors import ClusterError
from cluster.file_lock import open_locked
from experiments import provenance
from experiments.cell import (
    KeptRecordError,
    Machine,
    cell_hash,
    failure_record,
    make_cell,
    read_record,
    repeat_command,
    run_cell,
    write_failure,
)
from experiments.cell_log import cell_log
from experiments.compose import compose
from experiments.earlier_result import earlier_aside
from experiments.tracked_cell import cell_files

CPU = Machine("cpu", 1, 1)


def log_of(cell):
    """The lines of a cell's log, without their times, which are looked at, and process."""
    lines = (cell.folder / "log.txt").read_text().splitlines()
    assert all(re.match(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 ", line) for line in lines)
    return [re.sub(r"pid \d+ on \S+,", "pid", line.partition(" ")[2]) for line in lines]


def test_the_hash_holds_what_decides_numbers_and_nothing_else(tiny, monkeypatch, tmp_path):
    one = cell_hash(tiny, CPU, "data")
    assert one == cell_hash(tiny.model_copy(), CPU, "data")
    assert (
        make_cell(tiny, CPU, "data", tmp_path / "a", "quick").hash == one == make_cell(tiny, CPU, "data", tmp_path).hash
    )
    others = [
        cell_hash(tiny.model_copy(update={"seed": 1}), CPU, "data"),
        cell_hash(tiny.model_copy(update={"training": tiny.training.model_copy(update={"lr": 1})}), CPU, "data"),
        cell_hash(tiny, CPU, "other data"),
        *(
            cell_hash(tiny, replace(CPU, **change), "data")
            for change in ({"threads": 2}, {"workers": 2}, {"device": "cuda"})
        ),
    ]
    monkeypatch.setattr(provenance, "sources_hash", lambda: "other sources")
    others.append(cell_hash(tiny, CPU, "data"))
    assert len({one, *others}) == len(others) + 1


def test_a_run_leaves_a_record_that_repeats_it(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path, "quick")
    record = run_cell(cell, traffic, BareContext(), {"git_commit": "abc", "command": "altformer train"})
    assert read_record(cell.folder) == json.loads(json.dumps(record))
    assert record["status"] == "done" and record["provenance"]["git_commit"] == "abc"
    assert {"torch", "python", "numpy"} <= record["provenance"]["versions"].keys()
    assert compose(cell.folder / "config.yaml") == tiny
    assert str(cell.folder / "config.yaml") in record["provenance"]["repeat"]
    assert f"--cfg cells/{cell.hash}/config.yaml" in repeat_command(cell, str(tmp_path))
    assert "torch==" in (cell.folder / "environment.txt").read_text()
    again = run_cell(make_cell(tiny, CPU, traffic.content_hash, tmp_path / "b"), traffic, BareContext(), {})
    assert again["test"] == record["test"] and again["val"] == record["val"]


def distilled(config, teacher, weight=0.5):
    training = config.training.model_dump() | {"distillation": {"teacher": teacher, "weight": weight}}
    return Config.model_validate(config.model_dump() | {"training": training})


def test_a_distilled_cell_finds_its_teacher_beside_itself(tiny, traffic, tmp_path):
    teacher = make_cell(tiny.model_copy(update={"seed": 7}), CPU, traffic.content_hash, tmp_path)
    alone = run_cell(make_cell(tiny, CPU, traffic.content_hash, tmp_path), traffic, BareContext(), {})
    cell = make_cell(distilled(tiny, teacher.hash), CPU, traffic.content_hash, tmp_path)
    with pytest.raises(UserError, match=f"looked for it at {teacher.folder}, but there is no such folder"):
        run_cell(cell, traffic, BareContext(), {})
    run_cell(teacher, traffic, BareContext(), {})
    record = run_cell(cell, traffic, BareContext(), {})
    assert record["status"] == "done" and record["test"] != alone["test"]
    assert record["provenance"]["repeat"].startswith(f"altformer distill {teacher.folder} --cfg {cell.folder}")
    without_weight = make_cell(distilled(tiny, teacher.hash, 0.0), CPU, traffic.content_hash, tmp_path)
    assert without_weight.hash != cell.hash
    untaught = run_cell(without_weight, traffic, BareContext(), {})
    assert untaught["test"]["all"]["mae"] == pytest.approx(alone["test"]["all"]["mae"], rel=1e-3)
    (teacher.folder / "record.json").unlink()
    with pytest.raises(UserError, match="but it was not trained to its end"):
        run_cell(
            make_cell(distilled(tiny, teacher.hash, 0.4), CPU, traffic.content_hash, tmp_path),
            traffic,
            BareContext(),
            {},
        )


def test_a_teacher_that_sees_other_inputs_is_refused(tiny, traffic, tmp_path):
    teacher = make_cell(tiny.model_copy(update={"seed": 7}), CPU, traffic.content_hash, tmp_path)
    run_cell(teacher, traffic, BareContext(), {})
    cell = make_cell(distilled(tiny, teacher.hash), CPU, "other", tmp_path)
    shifted = replace(traffic, values=np.where(traffic.values == 0, 0, traffic.values + 5).astype(np.float32))
    with pytest.raises(UserError, match=r"scales readings by .* the student by"):
        run_cell(cell, shifted, BareContext(), {})
    with pytest.raises(UserError, match="trained on other sensors: column 0 was 's0'"):
        run_cell(cell, replace(traffic, sensor_ids=tuple("abcdef")), BareContext(), {})


def test_changed_code_of_a_users_own_model_is_another_cell(tiny, tmp_path, monkeypatch):
    source = tmp_path / "mine_of_the_cell_test.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    config = Config.model_validate(tiny.model_dump() | {"model": {"type": "own", "class_path": f"{source.stem}:Mine"}})
    with pytest.raises(UserError, match=f"cannot find '{source.stem}'; is it installed"):
        cell_hash(config, CPU, "data")
    hashes = []
    for content in ("class Mine: a = 1", "class Mine: a = 2", "class Mine: a = 1"):
        source.write_text(content)
        importlib.invalidate_caches()
        hashes.append(cell_hash(config, CPU, "data"))
    assert hashes[0] == hashes[2] != hashes[1]
    absent = Config.model_validate(tiny.model_dump() | {"model": {"type": "own", "class_path": "no.such.module:Mine"}})
    with pytest.raises(UserError, match=r"cannot find 'no\.such\.module'"):
        cell_hash(absent, CPU, "data")


def test_a_cell_that_another_process_trains_is_waited_for(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file, ThreadPoolExecutor() as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = pool.submit(run_cell, cell, traffic, BareContext(), {})
        time.sleep(0.3)
        assert not waiting.done() and not (cell.folder / "checkpoints").exists()
        assert "INFO waits for another process that trains this cell" in log_of(cell)
        others = failure_record(cell, "", {}) | {"status": "done", "epochs": 77}
        (cell.folder / "record.json").write_text(json.dumps(others))
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waiting.result(timeout=30)["epochs"] == 77, "the other's record is taken, nothing is trained twice"


class Rank(BareContext):
    """One of two workers; notes its signs of life."""

    world_size = 2

    def __init__(self, rank, marks):
        super().__init__()
        self.rank, self.marks = rank, marks

    def alive(self):
        (self.marks / f"alive-{self.rank}").touch()


def worker(rank, store, cell, data, marks, queue):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    # shorter than the wait, so that a rank left alone in a collective would fail
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=20)
    )
    queue.put(run_cell(cell, data, Rank(rank, marks), {}))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # all is handed over; torch's threads have been seen to abort at the interpreter's own exit


@pytest.fixture
def two_workers(traffic, tmp_path):
    """Starts a cell on two gloo ranks; returns what waits for their records."""
    ranks = []

    def start(cell):
        context = mp.get_context("spawn")
        queue = context.SimpleQueue()
        arguments = (str(tmp_path / "store"), cell, traffic, tmp_path, queue)
        ranks.append(mp.spawn(worker, arguments, nprocs=2, join=False))
        return lambda: [queue.get() for _ in range(2)]

    yield start
    for spawned in ranks:
        spawned.join()


@pytest.mark.slow
def test_several_workers_wait_for_another_process_and_take_its_record(tiny, traffic, tmp_path, two_workers):
    cell = make_cell(tiny, Machine("cpu", 1, 2), traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        records = two_workers(cell)
        signs = [tmp_path / f"alive-{rank}" for rank in range(2)]
        assert eventually(lambda: all(sign.exists() for sign in signs)), "both wait, and say that they live"
        assert not (cell.folder / "checkpoints").exists()
        others = failure_record(cell, "", {}) | {"status": "done", "epochs": 77}
        (cell.folder / "record.json").write_text(json.dumps(others))
        fcntl.flock(file, fcntl.LOCK_UN)
        assert [record["epochs"] for record in records()] == [77, 77]
    assert read_record(cell.folder) == others, "nothing was trained, nothing written over"


@pytest.mark.slow
def test_several_workers_train_a_cell_that_another_process_has_left(tiny, traffic, tmp_path, two_workers):
    cell = make_cell(tiny, Machine("cpu", 1, 2), traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        records = two_workers(cell)
        assert eventually((tmp_path / "alive-1").exists)
        fcntl.flock(file, fcntl.LOCK_UN)
        one, other = records()
    assert one["status"] == other["status"] == "done" and one["test"] == other["test"]
    assert read_record(cell.folder)["test"] == one["test"]
    assert log_of(cell).count("INFO epoch 1") == 1, "one rank writes the log"


def eventually(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()


def test_several_workers_are_repeated_by_the_command_that_started_them(tiny, tmp_path):
    cell = make_cell(tiny, Machine("cpu", 1, 2), "data", tmp_path)
    record = write_failure(cell, "", {"command": "altformer ablate depth --workers 2"})
    assert record["provenance"]["repeat"] == "altformer ablate depth --workers 2"


def test_a_users_own_file_with_another_time_axis_is_another_cell(tiny, traffic, tmp_path):
    moved = replace(traffic, times=traffic.times + np.timedelta64(9, "h"))
    assert moved.content_hash == traffic.content_hash
    one, other = (make_cell(tiny, CPU, data.identity, tmp_path).hash for data in (traffic, moved))
    assert one != other
    named = replace(traffic, user_file=False)
    assert named.identity == named.content_hash


def test_an_interrupted_run_leaves_no_record(tiny, traffic, tmp_path):
    class Interrupted(BareContext):
        def should_stop(self):
            return "interrupted"

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    assert run_cell(cell, traffic, Interrupted(), {})["status"] == "interrupted"
    assert read_record(cell.folder) is None


def test_a_cell_that_another_process_ends_while_it_waits_at_a_rung_is_not_stopped_over_its_record(
    tiny, traffic, tmp_path
):
    class Stopped(BareContext):
        def should_stop(self):
            return "scheduler"

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    done = run_cell(cell, traffic, BareContext(), {})
    assert done["status"] == "done"
    assert run_cell(cell, traffic, Stopped(), {"scheduler": {"type": "futility"}}) == read_record(cell.folder) == done


def test_a_stopped_record_names_its_scheduler(tiny, traffic, tmp_path):
    class Stopped(BareContext):
        def should_stop(self):
            return "scheduler"

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    record = run_cell(cell, traffic, Stopped(), {"scheduler": {"type": "asha"}})
    assert (record["status"], record["stopped_by"], record["test"]) == ("stopped", {"type": "asha"}, None)


def test_a_failure_is_recorded_with_its_traceback(tiny, tmp_path):
    cell = make_cell(tiny, CPU, "data", tmp_path)
    write_failure(cell, "Traceback ...\nValueError: boom", {})
    record = read_record(cell.folder)
    assert record is not None and record["status"] == "failed" and "boom" in record["error"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}'])
def test_a_broken_record_counts_as_none(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    assert read_record(tmp_path) is None


def test_a_failure_does_not_replace_what_another_process_has_finished(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    done = run_cell(cell, traffic, BareContext(), {})
    assert write_failure(cell, "its process died", {})["status"] == "done"
    assert read_record(cell.folder)["test"] == done["test"]


@pytest.mark.parametrize("status", ["stopped", None])
def test_a_failure_replaces_no_stopped_record_and_none_that_is_on_its_way(tiny, tmp_path, status):
    cell = make_cell(tiny, CPU, "data", tmp_path)
    cell.folder.mkdir(parents=True)
    before = failure_record(cell, "", {}) | {"status": status} if status else None
    (cell.folder / "record.json").write_text(json.dumps(before))
    with (cell.folder / ".lock").open("w") as file:
        if status is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(KeptRecordError):
            write_failure(cell, "its process died", {})
    assert json.loads((cell.folder / "record.json").read_text()) == before


def test_who_waits_for_another_process_can_be_asked_to_leave(tiny, traffic, tmp_path):
    class Asked(BareContext):
        def leave_now(self):
            return True

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        record = run_cell(cell, traffic, Asked(), {})
    assert record["status"] == "interrupted" and record["epochs"] == 0
    assert read_record(cell.folder) is None and log_of(cell)[-1] == "INFO ended: interrupted"


def test_a_lock_whose_folder_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    path, real, taken = tmp_path / "cell" / ".lock", fcntl.flock, []
    path.parent.mkdir()

    def flock(file, how):
        if not taken:
            path.unlink()
        taken.append(file)
        real(file, how)

    monkeypatch.setattr("cluster.file_lock.fcntl.flock", flock)
    with open_locked(path) as file:
        assert len(taken) == 2 and os.path.samestat(os.fstat(file.fileno()), path.stat())
        assert open_locked(path) is None


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_words(tiny, traffic, tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cluster.file_lock.fcntl.flock", flock)
    with pytest.raises(ClusterError, match=r"does not support file locks .*choose another --out"):
        run_cell(make_cell(tiny, CPU, traffic.content_hash, tmp_path), traffic, BareContext(), {})


def everything(cell):
    kept_out = {".lock", "log.txt"}
    return {
        path.relative_to(cell.folder): path.read_bytes()
        for path in cell.folder.rglob("*")
        if path.is_file() and path.name not in kept_out
    }


@pytest.mark.parametrize("error", [None, ValueError("boom"), KeyboardInterrupt()])
def test_an_earlier_result_goes_only_when_there_is_another(tiny, traffic, tmp_path, error):
    class Again(BareContext):
        def report(self, metrics):
            if error:
                raise error

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    first = run_cell(cell, traffic, BareContext(), {"command": "first"})
    before = everything(cell)
    if error:
        with pytest.raises(type(error)):
            run_cell(cell, traffic, Again(), {}, again=True)
        assert everything(cell) == before
    else:
        again = run_cell(cell, traffic, Again(), {"command": "again"}, again=True)
        assert again["test"] == first["test"] and read_record(cell.folder)["provenance"]["command"] == "again"
        assert everything(cell).keys() == before.keys()


@pytest.mark.parametrize("renames", range(8))
def test_an_earlier_result_outlives_a_kill_at_any_moment(tiny, traffic, tmp_path, monkeypatch, renames):
    """Killed after so many steps of moving it, aside or back; the next who trains the cell finds it whole."""
    cell = make_cell(tiny, CPU, "data", tmp_path)
    (cell.folder / "checkpoints" / "epoch-0001").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/epoch-0001/model"):
        (cell.folder / name).write_text(name)
    done = failure_record(cell, "", {}) | {"status": "done"}
    (cell.folder / "record.json").write_text(json.dumps(done))
    before, real, made = everything(cell), Path.rename, []

    def rename(path, target):
        if len(made) == renames:
            raise KeyboardInterrupt
        made.append(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), earlier_aside(cell.folder, True, lambda folder: False):
        (cell.folder / "checkpoints").mkdir()
        raise KeyboardInterrupt
    monkeypatch.undo()
    assert run_cell(cell, traffic, BareContext(), {}) == read_record(cell.folder) == json.loads(json.dumps(done))
    assert everything(cell) == before


class Leaving(BareContext):
    """Leaves after an epoch."""

    def should_stop(self):
        return "preempted"


def test_the_log_tells_of_every_attempt(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    for _ in range(2):
        run_cell(cell, traffic, Leaving(), {})
    (cell.folder / "checkpoints" / "epoch-0002" / "data.json").write_text("{}")
    run_cell(cell, traffic, BareContext(), {})
    damaged = cell.folder / "checkpoints" / "epoch-0002"
    assert log_of(cell) == [
        "INFO started (pid attempt new)",
        "INFO epoch 1",
        "INFO ended: interrupted",
        "INFO started (pid attempt again)",
        "INFO resumes after epoch 1",
        "INFO epoch 2",
        "INFO ended: interrupted",
        "INFO started (pid attempt again)",
        f"WARNING checkpoint {damaged} is damaged: using the one before",
        "INFO resumes after epoch 1",
        "INFO epoch 2",
        "INFO epoch 3",
        "INFO ended: done",
    ]
    files = cell_files(cell, read_record(cell.folder))
    assert (cell.folder / "log.txt", "") in files, "it goes to MLflow with the others"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("boom\nand more"), "ERROR ended: failed (ValueError: boom)"),
        (KeyboardInterrupt(), "INFO ended: interrupted (KeyboardInterrupt)"),
    ],
)
def test_the_log_tells_what_ended_an_attempt(tiny, traffic, tmp_path, error, said):
    class Broken(BareContext):
        def report(self, metrics):
            raise error

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    with pytest.raises(type(error)):
        run_cell(cell, traffic, Broken(), {})
    assert log_of(cell)[-2:] == ["INFO epoch 1", said]


def test_cells_trained_at_once_in_threads_have_logs_of_their_own(tiny, traffic, tmp_path):
    short = tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 1})})
    cells = [
        make_cell(short.model_copy(update={"seed": seed}), CPU, traffic.content_hash, tmp_path) for seed in range(2)
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda cell: run_cell(cell, traffic, BareContext(), {}), cells))
    for cell in cells:
        assert log_of(cell) == ["INFO started (pid attempt new)", "INFO epoch 1", "INFO ended: done"]


def test_a_log_that_cannot_be_written_stops_nothing(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    (cell.folder / "log.txt").mkdir(parents=True)
    assert run_cell(cell, traffic, BareContext(), {})["status"] == "done"


def test_a_line_that_fits_only_in_part_is_left_out(tmp_path, monkeypatch):
    """As on a disk that is nearly full: the system takes what fits and says how much that was."""
    written = FileIO.write

    class Small(FileIO):
        def write(self, content):
            return written(self, content[: max(0, 100 - self.tell())])

    monkeypatch.setattr(Path, "open", lambda self, mode, **rest: Small(self, mode.replace("b", "")))
    log = logging.getLogger("experiments.cell")
    with cell_log(tmp_path):
        for number in range(5):
            log.info("line %d", number)
    monkeypatch.undo()
    lines = (tmp_path / "log.txt").read_text().splitlines(keepends=True)
    assert [line[-7:] for line in lines] == ["line 0\n", "line 1\n"]
