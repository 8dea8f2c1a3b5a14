"""Slices: the same numbers however often they end, no test set for candidates, and what happens to failures."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import pytest

from ablations.accuracy import clock as clock_module
from ablations.accuracy.clock import Clock, SeedInSlice, SliceContext
from ablations.accuracy.plan import load_plan
from ablations.accuracy.steps import AccuracyCampaign
from ablations.leftovers import collect_unreferenced
from ablations.tuning.log import JsonLines
from experiments.cell import Machine, read_record, run_cell
from experiments.cli import main
from experiments.pace import Load
from tests.ablations.accuracy.conftest import write_plan
from tests.small import as_options

NUMBERS = ("status", "epochs", "best_epoch", "val", "test", "params")
#: Only the first step and one round.
SHORT = (
    ("first: {datasets: [simulated], seeds: 2}", "first: {datasets: [simulated], seeds: 1}"),
    ("    size:\n      dataset: simulated\n      candidates:\n        narrow: {mlp_ratio: 1}\n", ""),
    ("  final: {datasets: [simulated], seeds: 3, settings: {ema_decay: 0.5}}\n", ""),
    ("  ablate:\n    dataset: simulated\n    seeds: 2\n    arms:\n      no_average: {ema_decay: 0}\n", ""),
)


def steps_of(path, out):
    return AccuracyCampaign(load_plan(str(path)), Machine("cpu", 1), out).steps()


def records(out):
    return {folder.name: read_record(folder) for folder in (out / "cells").iterdir()}


def numbers(record):
    curve = [{key: epoch[key] for key in ("epoch", "train_loss", "val_mae", "lr")} for epoch in record["curve"]]
    return {**{key: record[key] for key in NUMBERS}, "curve": curve}


def test_slices_of_a_step_each_end_with_the_numbers_of_one_go(tmp_path, capsys, trained):
    path = write_plan(tmp_path, *SHORT, ("        tiny: {lr: 1.0e-9}\n", ""))
    out, calls, code = tmp_path / "runs", 0, 3
    while code == 3:
        code = main(["campaign", str(path), "--minutes", "0.0001", "--out", str(out)])
        calls += 1
    assert code == 0 and calls > 10
    assert re.search(r"left with a checkpoint after epoch 1", capsys.readouterr().out)
    one_go = records(trained)
    assert {key: numbers(found) for key, found in records(out).items()} == {
        key: numbers(one_go[key]) for key in records(out)
    }


def test_candidates_are_chosen_by_validation_and_read_no_test_set(toy, trained):
    first, rate, size, final, _ = steps_of(toy, trained)
    for task in (*rate.tasks, *size.tasks):
        [record] = [at.record for at in task.cells]
        assert record["status"] == "stopped" and record["test"] is None
        assert record["stopped_by"] == {"type": "validation_only"}
    assert rate.best.val == min(task.val for task in rate.tasks)
    chosen = {**rate.best.settings, **size.best.settings}
    assert final.tasks[0].config.training.lr == chosen.get("lr", 0.003)
    assert all(at.record["test"] for task in (*first.tasks, *final.tasks) for at in task.cells)


def test_each_test_set_that_is_read_is_in_the_ledger_once(toy, trained):
    entries = JsonLines(trained / "test_ledger-simulated.jsonl").read()
    read = [entry["cell"] for entry in entries if entry["what"] == "cell"]
    done = [key for key, record in records(trained).items() if record["status"] == "done"]
    assert sorted(read) == sorted(done) and {entry["campaign"] for entry in entries} == {"campaign-toy"}


def test_a_candidates_cell_goes_on_to_its_test_when_it_is_trained_as_any_other(toy, trained, tmp_path, capsys):
    [*_, task] = steps_of(toy, trained)[1].tasks
    out = tmp_path / "runs"
    source = shutil.copytree(task.cells[0].cell.folder, out / "cells" / task.cells[0].cell.hash)
    before = len((source / "log.txt").read_text().splitlines())
    options = as_options({"seed": 1000, "device": "cpu", "threads": 1})
    assert main(["train", "--cfg", str(source / "config.yaml"), *options, "--out", str(out)]) == 0
    record = read_record(source)
    assert record["status"] == "done" and record["test"] is not None
    added = (source / "log.txt").read_text().splitlines()[before:]
    assert any("resumes after epoch 1" in line for line in added) and not any(" epoch 2" in line for line in added)


def test_a_cell_is_the_one_of_plain_training(toy, trained, capsys):
    task = steps_of(toy, trained)[0].tasks[0]
    config = task.cells[0].cell.folder / "config.yaml"
    assert main(["train", "--cfg", str(config), "--device", "cpu", "--threads", "1", "--out", str(trained)]) == 0
    assert "this very run is finished" in capsys.readouterr().out


def test_what_other_sources_have_trained_counts(toy, trained, monkeypatch, capsys):
    monkeypatch.setattr("experiments.provenance.sources_hash", lambda: "changed")
    assert main(["campaign", str(toy), "--out", str(trained)]) == 0
    assert "Nothing is left to train" in capsys.readouterr().out


def test_a_candidate_that_fails_is_out_and_a_final_cell_that_fails_ends_the_slice(tmp_path, monkeypatch, capsys):
    def failing(cell, data, context, started_by, again=False, test=True):
        if cell.config.training.lr == fails:
            raise RuntimeError("planted")
        return run_cell(cell, data, context, started_by, again, test)

    monkeypatch.setattr("ablations.accuracy.slices.run_cell", failing)
    path, out, fails = write_plan(tmp_path, *SHORT), tmp_path / "runs", 1e-9
    command = ["campaign", str(path), "--minutes", "60", "--out", str(out)]
    assert main(command) == 0
    tiny = steps_of(path, out)[1].tasks[1]
    assert tiny.cells[0].record["status"] == "failed" and "planted" in tiny.cells[0].record["error"]
    assert "tune rate tiny seed 1000: failed; " in capsys.readouterr().out
    fails = 3e-3
    assert main([*command[:-1], str(tmp_path / "other")]) == 1
    assert "failed: RuntimeError: planted" in capsys.readouterr().out
    fails = 0
    assert main([*command[:-1], str(tmp_path / "other")]) == 0, "what failed is tried again"


def test_the_cells_are_spared_when_room_is_made(trained):
    cells = set(records(trained))
    assert {entry["cell_hash"] for entry in json.loads((trained / "campaigns/toy/cells.json").read_text())} <= cells
    assert collect_unreferenced(trained, dry_run=True).cells == 0


@pytest.mark.parametrize(
    ("step", "left", "leaves"),
    [
        (5, 3.5, False),  # two further steps, and a second to leave
        (5, 2.5, True),
        (9, 40.0, False),  # before the last step: its validation too
        (9, 30.0, True),
    ],
)
def test_a_slice_leaves_in_time_for_what_cannot_be_left(toy, tmp_path, monkeypatch, step, left, leaves):
    context, clock = timed_context(toy, tmp_path, monkeypatch)
    for done in range(1, step + 1):
        clock.now += 1
        context.progress(1, done, 10)
    clock.now = 600 - left
    assert context.leave_now() == leaves


@pytest.mark.parametrize(
    ("seeds", "left", "leaves"),
    [
        (1, 65.0, False),
        (1, 55.0, True),
        (2, 160.0, False),  # the other one's validation of 30 s, two tests of 60 s and two checkpoints
        (2, 150.0, True),
    ],
)
def test_after_an_epoch_there_must_be_time_for_the_tests(toy, tmp_path, monkeypatch, seeds, left, leaves):
    context, clock = timed_context(toy, tmp_path, monkeypatch, seeds)
    contexts = [SeedInSlice(context, seed) for seed in range(seeds)] if seeds > 1 else [context]
    clock.now = 600 - left
    for one in contexts:
        one.report({"epoch": 1, "train_loss": 1, "val_mae": 1, "lr": 1, "epoch_seconds": 31, "samples_per_second": 80})
        clock.now += 30  # each its validation: they leave together or not at all
    assert [bool(one.should_stop()) for one in contexts] == [leaves] * seeds


def test_steps_of_seeds_at_once_count_once(toy, tmp_path, monkeypatch):
    context, clock = timed_context(toy, tmp_path, monkeypatch, seeds=2)
    for step in range(1, 6):
        clock.now += 1
        for seed in range(2):
            SeedInSlice(context, seed).progress(1, step, 10)
    clock.now = 600 - 4.5
    assert not context.leave_now(), "two further steps of a second, and two checkpoints"
    clock.now += 1
    assert context.leave_now()


def timed_context(toy, tmp_path, monkeypatch, seeds=1):
    """A context in a slice of ten minutes by a clock that is set; 30 windows are validated and 60 tested."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(clock_module, "load_of", lambda *_: Load(epochs=2, trained=80, validated=30, tested=60))
    campaign = AccuracyCampaign(load_plan(str(toy)), Machine("cpu", 1), tmp_path)
    task = campaign.steps()[0].tasks[0]
    context = SliceContext("name", task.cells[:seeds], campaign.data(task.config.dataset), task.params, Clock(10))
    context._window = 1.0
    return context, clock


def test_another_cell_is_begun_only_if_there_is_time_to_start_it(monkeypatch):
    clock = Clock(1)
    clock.startup = 20
    monkeypatch.setattr(Clock, "left", 39)
    assert [clock.begins(), clock.begins()] == [True, False]
    monkeypatch.setattr(Clock, "left", 41)
    assert clock.begins()
