"""How a plan becomes contests for the rule that stops arms, and what a stopped cell's record means afterwards."""

from __future__ import annotations

import json

import pytest

from ablations.contests import baselines_first, contest_of, rule_of, scheduler_of
from ablations.early_stopping import Futility
from ablations.matrix import load_matrix
from ablations.planning import make_plan
from ablations.union import make_union
from altformer.errors import UserError
from cluster.futility import History
from cluster.scheduler import AshaScheduler, FutilityScheduler, NoScheduler
from experiments.cell import Machine, failure_record

RATES = "name: rates\nbase: simulated\narms: {high: {lr: 0.003}, low: {lr: 0.001}}\nbaseline: low\nseeds: 3\n"
DROPS = (
    "name: drops\nbase: simulated\nsettings: {lr: 0.003}\narms: {none: {}, some: {dropout: 0.2}}\n"
    "baseline: none\nseeds: 3\n"
)
TO_THE_END = DROPS.replace("drops", "whole") + "scheduler: none\n"
SEARCH = "name: search\nkind: search\nbase: simulated\ngrid: {lr: [0.001, 0.01]}\nseeds: 3\n"


@pytest.fixture
def plan(traffic, tmp_path):
    def make(text=RATES, **changes):
        path = tmp_path / f"{text.split()[1]}.yaml"
        path.write_text(text)
        arguments = {"dataset": None, "profile": "quick", "settings": {"epochs": 8}, "seeds": 3}
        return make_plan(load_matrix(path), traffic, Machine(), out=tmp_path / "runs", **arguments | changes)

    return make


def settle(at, **changes):
    record = failure_record(at.cell, "", {}) | {"status": "done", "error": None, "curve": [{"val_mae": 3.0}]} | changes
    at.cell.folder.mkdir(parents=True, exist_ok=True)
    (at.cell.folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("shares", "epochs", "rungs"),
    [
        ((0.25, 0.5), 8, (2, 4)),
        ((0.25, 0.5), 5, (2, 3)),
        ((0.25, 0.5), 150, (38, 75)),
        ((0.25, 0.5), 2, (1,)),  # both shares
        ((0.25, 0.5), 1, ()),
        ((0.9,), 4, ()),  # the last epoch is no rung
    ],
)
def test_rungs_are_shares_of_the_epochs(shares, epochs, rungs):
    assert Futility(rungs=shares).rungs_of(epochs) == rungs


def test_no_cell_waits_where_too_few_seeds_could_stop_no_arm(plan):
    assert contest_of(plan(seeds=2)) is None and isinstance(scheduler_of(plan(seeds=2)), NoScheduler)


def test_a_comparison_is_a_contest_of_its_arms_with_its_baseline(plan):
    found = plan()
    hashes = {(at.arm, at.seed): at.cell.hash for at in found.cells}
    contest = contest_of(found)
    assert contest.baseline == {seed: hashes["low", seed] for seed in range(3)}
    assert contest.arms == {"high": {seed: hashes["high", seed] for seed in range(3)}}
    assert (contest.rungs, contest.margin, contest.alpha) == ((2, 4), 0.02, 0.05)
    assert isinstance(scheduler_of(found), FutilityScheduler)


def test_the_kind_of_matrix_chooses_the_rule_where_none_is_named(plan):
    assert plan().scheduler["type"] == "futility"
    assert plan(SEARCH).scheduler["type"] == "asha"
    assert isinstance(scheduler_of(plan(SEARCH)), AshaScheduler)
    assert isinstance(scheduler_of(plan(TO_THE_END)), NoScheduler)
    assert isinstance(scheduler_of(plan(settings={"epochs": 1})), NoScheduler), "no rung before the end"


def test_the_rule_needs_a_baseline(plan):
    with pytest.raises(UserError, match="futility judges every arm against the baseline, and none is named"):
        plan(SEARCH + "scheduler: futility\n")


def test_whoever_is_waited_for_runs_first(plan):
    found = plan()
    assert [(at.arm, at.seed) for at in baselines_first(found, found.to_run)] == [
        *(("low", seed) for seed in range(3)),
        *(("high", seed) for seed in range(3)),
    ]
    whole = plan(TO_THE_END)
    assert baselines_first(whole, whole.to_run) == whole.to_run


def test_what_is_known_of_cells_goes_into_the_race(plan):
    settle(plan().cells[0], curve=[{"val_mae": 3.0}, {"val_mae": 2.5}])
    settle(plan().cells[1], status="failed")
    found = plan()
    assert scheduler_of(found).history == {found.cells[0].cell.hash: History([3.0, 2.5], "done")}


def test_what_a_lost_attempt_has_saved_is_read_from_its_last_checkpoint(plan, monkeypatch):
    found = plan()
    at = found.cells[0].cell
    curves = {at.folder: [{"val_mae": 3.0}, {"val_loss": 1.0}]}
    monkeypatch.setattr("ablations.contests.last_curve", lambda folder: curves.get(folder, []))
    saved = scheduler_of(found).saved
    assert saved(at.hash) == pytest.approx([3.0, float("nan")], nan_ok=True)
    assert saved(found.cells[1].cell.hash) == []


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, True),
        ({"against": ["another baseline"]}, False),
        ({"margin": 0.5}, False),
        ({"rungs": [0.5]}, False),
        ({"profile": "full"}, False),
        ({"type": "asha"}, False),
    ],
)
def test_a_stopped_cell_is_settled_only_under_the_rule_and_the_baseline_that_stopped_it(plan, changes, settled):
    at = plan().cells[0]
    settle(at, status="stopped", stopped_by=plan().scheduler | changes)
    assert plan().settled(plan().cells[0]) is settled


def test_another_baseline_is_another_rule(plan):
    assert plan().scheduler["against"] == [plan().cells[1].cell.hash]
    other = plan(RATES.replace("baseline: low", "baseline: high")).scheduler
    assert other != plan().scheduler
    assert {**other, "against": 0} == {**plan().scheduler, "against": 0}


def test_matrices_that_join_keep_their_own_contests(plan, tmp_path):
    rates, drops = plan(), plan(DROPS)
    union = make_union("several", [rates, drops], tmp_path)
    scheduler = scheduler_of(union)
    assert scheduler.contests == (contest_of(rates), contest_of(drops))
    high = rates.cells[0]  # an arm of one, the baseline of the other
    assert high.cell.hash == drops.cells[0].cell.hash
    assert rule_of(union, high)["against"] == [*rates.scheduler["against"], *drops.scheduler["against"]]
    assert rule_of(union, rates.cells[1])["against"] == rates.scheduler["against"]
    assert rule_of(rates, high) == rates.scheduler


def test_a_cell_stopped_in_all_matrices_is_settled_in_each(plan, tmp_path):
    rates, drops = plan(), plan(DROPS)
    rule = rule_of(make_union("several", [rates, drops], tmp_path), rates.cells[0])
    settle(rates.cells[0], status="stopped", stopped_by=rule)
    assert plan().settled(plan().cells[0])
    assert plan(DROPS).settled(plan(DROPS).cells[0])
    union = make_union("several", [plan(), plan(DROPS)], tmp_path)
    assert len(union.to_run) == len(union.cells) - 1
    settle(rates.cells[0], status="stopped", stopped_by=rates.scheduler)
    union = make_union("several", [plan(), plan(DROPS)], tmp_path)
    assert len(union.to_run) == len(union.cells), "stopped for one of them, wanted by the other"


def test_a_cell_that_another_matrix_trains_to_the_end_is_never_stopped(plan, tmp_path):
    rates, whole = plan(), plan(TO_THE_END)
    scheduler = scheduler_of(make_union("several", [rates, whole], tmp_path))
    assert scheduler.contests == (contest_of(rates),)
    assert scheduler.never == {at.cell.hash for at in whole.cells}
