"""Seeds at once in a slice: the cells of one by one but for rounding, left after an epoch, and what falls back."""

from __future__ import annotations

import pytest
import torch

from ablations.accuracy.plan import load_plan
from ablations.accuracy.steps import AccuracyCampaign
from experiments.cell import Machine, read_record
from experiments.cli import main
from tests.ablations.accuracy.conftest import write_plan

AT_ONCE = ("{device: cpu, threads: 1}", "{device: cpu, threads: 1, seeds_at_once: true}")


def steps_of(path, out):
    return AccuracyCampaign(load_plan(str(path)), Machine("cpu", 1), out).steps()


def by_seed(step):
    return {at.seed: read_record(at.cell.folder) for task in step.tasks for at in task.cells}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """The plan whose seeds are trained at once, and the runs of it."""
    folder = tmp_path_factory.mktemp("at_once")
    path = write_plan(folder, AT_ONCE)
    assert main(["campaign", str(path), "--minutes", "60", "--out", str(folder / "runs")]) == 0
    return path, folder / "runs"


def test_where_they_need_too_much_memory_they_go_one_by_one(tmp_path, monkeypatch, capsys):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr("ablations.accuracy.at_once.run_together", too_large)
    path, out = write_plan(tmp_path, AT_ONCE), tmp_path / "runs"
    assert main(["campaign", str(path), "--minutes", "60", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "first simulated: one seed after the other: at once they do not fit into memory" in printed
    assert all(record["status"] == "done" for record in by_seed(steps_of(path, out)[0]).values())


@pytest.mark.parametrize("name", ["first", "final"])
def test_seeds_at_once_end_as_one_by_one_but_for_rounding(at_once, toy, trained, name):
    [ours] = [by_seed(step) for step in steps_of(*at_once) if step.name == name]
    [alone] = [by_seed(step) for step in steps_of(toy, trained) if step.name == name]
    assert ours.keys() == alone.keys() and len(ours) > 1
    for seed, record in ours.items():
        assert record["provenance"]["together"] == list(ours)
        assert record["test"]["all"]["mae"] == pytest.approx(alone[seed]["test"]["all"]["mae"], rel=1e-4)


def test_candidates_whose_test_is_not_read_go_alone(at_once):
    rounds = [step for step in steps_of(*at_once) if step.name.startswith("tune")]
    records = [record for step in rounds for record in by_seed(step).values()]
    assert len(rounds) == 2 and not any(record["provenance"].get("together") for record in records)


def test_the_page_repeats_at_once_what_was_trained_at_once(at_once, tmp_path):
    path, out = at_once
    assert main(["campaign", str(path), "--publish", str(tmp_path), "--out", str(out)]) == 0
    page = (tmp_path / "accuracy.md").read_text()
    assert "toy-first-simulated.yaml --seeds 0,1 --device cpu" in page
    assert "toy-final-simulated.yaml --seeds 0,1,2 --device cpu" in page


def test_slices_that_end_in_the_middle_of_epochs_end_with_the_numbers_of_one_go(at_once, tmp_path, capsys):
    path, out, code, calls = write_plan(tmp_path, AT_ONCE), tmp_path / "runs", 3, 0
    while code == 3 and not by_seed(steps_of(path, out)[0])[1]:
        code = main(["campaign", str(path), "--minutes", "0.0001", "--out", str(out)])
        calls += 1
    assert calls > 4
    assert "first simulated seed 1: left with a checkpoint after epoch 0" in capsys.readouterr().out
    [whole] = [by_seed(step) for step in steps_of(*at_once) if step.name == "first"]
    for seed, record in by_seed(steps_of(path, out)[0]).items():
        assert record["test"] == whole[seed]["test"] and record["val"] == whole[seed]["val"]


def test_what_cannot_be_trained_at_once_goes_one_by_one_and_says_why(tmp_path, capsys):
    path = write_plan(tmp_path, AT_ONCE, ("lr: 3.0e-3}", "lr: 3.0e-3, optimizer: Muon}"))
    main(["campaign", str(path), "--minutes", "0.0001", "--out", str(tmp_path / "runs")])
    assert "first simulated: one seed after the other: " in (printed := capsys.readouterr().out)
    assert "Muon" in printed and "first simulated seed 0: left with a checkpoint" in printed


def test_seeds_that_fail_have_a_record_each_and_end_the_slice(tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise RuntimeError("planted")
        yield

    monkeypatch.setattr("ablations.accuracy.at_once.run_together", failing)
    path, out = write_plan(tmp_path, AT_ONCE), tmp_path / "runs"
    assert main(["campaign", str(path), "--minutes", "60", "--out", str(out)]) == 1
    records = by_seed(steps_of(path, out)[0])
    assert len(records) == 2 and all("planted" in record["error"] for record in records.values())
    assert "failed: RuntimeError: planted" in capsys.readouterr().out
