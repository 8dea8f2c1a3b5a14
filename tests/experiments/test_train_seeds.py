"""``altformer train --seeds``: the cells, records and runs of each seed, trained at once."""

from __future__ import annotations

import json
import re
import shlex
import statistics

import pytest
import torch

from altformer.data.datasets import load
from altformer.training.context import BareContext
from altformer.training.run import Result
from experiments.cell import Machine, make_cell, read_record, record_of
from experiments.cell_lock import lock_at_once
from experiments.cells_together import run_together
from experiments.cli import main
from experiments.compose import compose, find_experiment
from experiments.pace import recorded_pace
from experiments.runs import find_run, find_siblings
from tests.experiments.conftest import SETTINGS
from tests.small import as_options


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs"


def train(out, *arguments):
    machine = ["--device", "cpu", "--threads", "1", "--out", str(out)]
    return main(["train", "--cfg", "simulated", *machine, *as_options(SETTINGS), *arguments])


def test_seeds_are_trained_into_the_cells_they_have_alone(out, trained_out, capsys):
    assert train(out, "--seeds", "0,1,2", "--experiment_name", "three") == 0
    printed = capsys.readouterr().out
    assert "seeds 0, 1, 2" in printed and "seed 1: epoch 2/2  train loss" in printed
    runs = [find_run(f"three-seed{seed}", out) for seed in range(3)]
    for seed, run in enumerate(runs):
        alone = find_run(f"seed{seed}", trained_out)
        assert run.hash == alone.hash, "a matrix finds it"
        assert run.record["provenance"]["together"] == [0, 1, 2] and "together" not in alone.record["provenance"]
        assert run.record["test"]["all"] == pytest.approx(alone.record["test"]["all"], rel=1e-4)
        lines = [line.split(" ", 1)[1] for line in (run.folder / "log.txt").read_text().splitlines()]
        assert [re.sub(r" \(pid.*", "", line) for line in lines] == [
            "INFO started",
            "INFO epoch 1",
            "INFO epoch 2",
            "INFO ended: done",
        ]
        for name in ("config.yaml", "environment.txt", "forecast_sample.npz", "test_errors.npz"):
            assert (run.folder / name).is_file()
    assert [sibling.hash for sibling in find_siblings(runs[0])] == [run.hash for run in runs]
    maes = [run.record["test"]["all"]["mae"] for run in runs]
    for name, statistic in (("mean", statistics.fmean), ("std", statistics.stdev)):
        [row] = [line for line in printed.splitlines() if line.split()[:1] == [name]]
        assert f"{statistic(maes):.4f}" in row
    assert recorded_pace(runs[0].record, runs[0].config, None) is None, "times of a share are no pace"


def test_the_repeating_command_has_all_seeds_and_gives_the_same_bits(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(out, "--seeds", "0,1") == 0
    record = find_run("simulated-seed1", out).record
    name, *rest = shlex.split(record["provenance"]["repeat"])
    assert name == "altformer" and rest[:2] == ["train", "--cfg"] and "--seeds 0,1" in record["provenance"]["repeat"]
    assert main(rest) == 0
    again = read_record(tmp_path / "repeat" / "cells" / record["cell_hash"])
    assert again["test"] == record["test"] and again["val"] == record["val"]


@pytest.mark.parametrize(
    ("groups", "repeated"),
    [((2, 2), True), ((2, 1), True), ((3, 2), False), ((0, 2), False)],  # of one that left before; alone before
)
def test_seeds_that_were_not_always_the_same_are_not_named_to_be_repeated(tmp_path, groups, repeated):
    config = compose(find_experiment("simulated"), settings=SETTINGS)
    cell = make_cell(config, Machine("cpu", 1), "0" * 8, tmp_path)
    curve = [{"epoch": number, "seeds_at_once": group} for number, group in enumerate(groups, 1)]
    result = Result("done", 2, 1, {}, {}, curve, params=1, train_seconds=1.0)
    made = record_of(cell, result, {}, "", [0, 1])["provenance"]
    assert made["together"] == [0, 1] and ("--seeds 0,1" in made["repeat"]) == repeated


def test_finished_seeds_are_found_whatever_could_be_trained_at_once(out, capsys):
    for seed in ("0", "1"):
        assert train(out, "--seed", seed, "--optimizer", "Muon") == 0
    assert train(out, "--seeds", "0,1", "--optimizer", "Muon") == 0
    assert capsys.readouterr().out.count("this very run is finished") == 2
    assert train(out, "--seeds", "0,1,2", "--optimizer", "Muon") == 0, "a single one that is missing goes alone"
    assert "at once" not in (find_run("simulated-seed2", out).folder / "log.txt").read_text()


def test_seeds_that_need_too_much_memory_are_told_so(out, monkeypatch, capsys):
    def too_large(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("altformer.training.together._step", too_large)
    assert train(out, "--seeds", "0,1") == 2
    assert "2 seeds at once do not fit into memory: give fewer --seeds" in capsys.readouterr().err


def test_one_that_leaves_while_another_process_has_it_is_interrupted_and_the_others_are_trained(out, tmp_path):
    config = compose(find_experiment("simulated"), settings=SETTINGS)
    data = load(config.dataset)
    cells = [
        make_cell(config.model_copy(update={"seed": seed}), Machine("cpu", 1), data.identity, out) for seed in (0, 1)
    ]

    class Impatient(BareContext):
        def leave_now(self):
            return True

    with lock_at_once(cells[0].folder):
        found = {
            cell.config.seed: record["status"]
            for cell, record in run_together(cells, data, [Impatient(), BareContext()], {})
        }
    assert found == {0: "interrupted", 1: "done"}
    assert read_record(cells[0].folder) is None
    assert "ended: interrupted" in (cells[0].folder / "log.txt").read_text()


def test_what_is_finished_is_not_trained_again(own_out, capsys):
    before = {seed: find_run(f"seed{seed}", own_out).record for seed in (0, 3)}
    assert train(own_out, "--seeds", "3,0,4") == 0
    printed = capsys.readouterr().out
    assert printed.count("this very run is finished") == 2 and ", seeds 4" in printed
    for record in before.values():
        assert read_record(own_out / "cells" / record["cell_hash"]) == record
    assert "together" not in find_run("simulated-seed4", own_out).record["provenance"], "it was alone"
    assert train(own_out, "--seeds", "0,3", "--again") == 0
    assert find_run("simulated-seed3", own_out).record["provenance"]["together"] == [0, 3]


def test_an_interruption_leaves_epochs_from_which_either_goes_on(out, capsys, monkeypatch):
    from altformer.training.run import Run

    judge, calls = Run.judge, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:  # in epoch 2
            raise KeyboardInterrupt
        return judge(self, *arguments)

    monkeypatch.setattr(Run, "judge", interrupted)
    assert train(out, "--seeds", "0,1") == 130
    assert "the same command goes on where this one ended" in capsys.readouterr().err
    monkeypatch.undo()
    cells = sorted((out / "cells").iterdir())
    assert [[path.name for path in (cell / "checkpoints").iterdir()] for cell in cells] == [["epoch-0001"]] * 2
    assert all("ended: interrupted" in (cell / "log.txt").read_text() for cell in cells)
    assert train(out, "--seed", "1", "--experiment_name", "alone") == 0
    assert train(out, "--seeds", "0,1") == 0
    assert "resumes after epoch 1" in (find_run("alone", out).folder / "log.txt").read_text()
    assert len(find_run("simulated-seed0", out).record["curve"]) == 2


def test_a_failure_is_told_in_the_log_of_every_cell_that_it_ended(out, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("boom")

    monkeypatch.setattr("altformer.training.together._step", broken)
    with pytest.raises(RuntimeError, match="boom"):
        train(out, "--seeds", "0,1")
    for cell in (out / "cells").iterdir():
        assert "ERROR ended: failed (RuntimeError: boom)" in (cell / "log.txt").read_text()
        assert read_record(cell) is None


def test_one_that_another_process_finished_meanwhile_is_taken(own_out, monkeypatch):
    """Finished between the look at the records and the lock."""
    record = find_run("seed0", own_out).record
    monkeypatch.setattr("experiments.train_seeds.finished_record", lambda folder: None)
    assert train(own_out, "--seeds", "0,4,5") == 0
    assert find_run("simulated-seed0", own_out).record["provenance"] == record["provenance"]
    assert find_run("simulated-seed4", own_out).record["provenance"]["together"] == [4, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0,1", "--seed", "3"], "either --seed, for one, or --seeds"),
        (["--seeds", "0,x"], "whole numbers with commas between, such as 0,1,2, got '0,x'"),
        (["--seeds", "1,1"], "takes each seed once, got '1,1'"),
        (["--seeds", "0,1", "--compile", "true"], "training.compile is on"),
        (["--seeds", "0,1", "--model", "stid"], "Stid"),
    ],
)
def test_mistakes_are_one_message_and_code_2(out, capsys, arguments, message):
    if "stid" in arguments:
        arguments = ["--seeds", "0,1", "--model", "stid"]
        common = ["train", "--cfg", "simulated", "--days", "4", "--sensors", "8", "--out", str(out)]
        assert main([*common, *arguments]) == 2
    else:
        assert train(out, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_each_seed_is_a_run_in_mlflow(out):
    import mlflow

    assert train(out, "--seeds", "0,1", "--mlflow") == 0
    found = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    experiment = found.search_experiments(filter_string="name != 'Default'")[0]
    runs = found.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["seed"] for run in runs) == ["0", "1"]
    for run in runs:
        record = find_run(f"simulated-seed{run.data.tags['seed']}", out).record
        assert run.data.metrics["test_mae"] == pytest.approx(record["test"]["all"]["mae"])
        assert len(found.get_metric_history(run.info.run_id, "val_mae")) == 2
    assert json.dumps([run.info.status for run in runs]) == '["FINISHED", "FINISHED"]'
