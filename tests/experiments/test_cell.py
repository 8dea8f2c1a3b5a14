from __future__ import annotations

import fcntl
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from altformer.errors import UserError
from altformer.training.context import BareContext
from experiments import provenance
from experiments.cell import Machine, cell_hash, make_cell, read_record, repeat_command, run_cell, write_failure
from experiments.compose import compose

CPU = Machine("cpu", 1, 1)


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


def test_a_cell_that_another_process_trains_is_waited_for(tiny, traffic, tmp_path):
    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file, ThreadPoolExecutor() as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = pool.submit(run_cell, cell, traffic, BareContext(), {})
        time.sleep(0.3)
        assert not waiting.done() and not (cell.folder / "checkpoints").exists()
        others = write_failure(cell, "", {}) | {"status": "done", "epochs": 77}
        (cell.folder / "record.json").write_text(json.dumps(others))
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waiting.result(timeout=30)["epochs"] == 77, "the other's record is taken, nothing is trained twice"


def test_several_workers_do_not_wait_for_another_process(tiny, traffic, tmp_path):
    class TwoRanks(BareContext):
        world_size = 2

    cell = make_cell(tiny, CPU, traffic.content_hash, tmp_path)
    cell.folder.mkdir(parents=True)
    with (cell.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being trained by another process"):
            run_cell(cell, traffic, TwoRanks(), {})


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
