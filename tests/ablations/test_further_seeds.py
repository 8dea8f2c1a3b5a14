"""More seeds after a look: which arms get them, and that looks are counted once."""

from __future__ import annotations

import json

import pytest

from ablations.early_stopping import Futility
from ablations.further_seeds import looks_of, only_undecided, verdicts, with_look, without_stopped
from ablations.matrix import load_matrix
from ablations.planning import make_plan
from altformer.config import DatasetConfig
from altformer.data.datasets import load
from altformer.errors import UserError
from experiments.cell import Machine
from experiments.cli import main

MATRIX = """
name: m
base: simulated.yaml
arms: {base: {}, close: {dropout: 0.11}, worse: {dropout: 0.12}, equal: {dropout: 0.13}, gone: {dropout: 0.14}}
baseline: base
scheduler: {type: futility}
"""
NOISE = (0.003, -0.002, 0.001, 0.004, -0.003, 0.002)
ERRORS = {  # by arm the test MAE of each seed
    "base": [3.0] * 6,
    "close": [3.1, 2.8, 3.25, 2.9, 3.3, 2.7],
    "worse": [3.5 + noise for noise in NOISE],
    "equal": [3.0 + noise / 100 for noise in NOISE],
    "gone": "stopped",
}


@pytest.fixture
def plan(traffic, tmp_path):
    def make(seeds=3, text=MATRIX, data=traffic, **changes):
        path = tmp_path / "m.yaml"
        path.write_text(text)
        arguments = {"dataset": None, "profile": "quick", "settings": {}, "out": tmp_path / "runs"} | changes
        return make_plan(load_matrix(path), data, Machine(), seeds=seeds, keep_seeds=True, **arguments)

    return make


@pytest.fixture
def train(make_record):
    """Leave the records of a plan's cells, as far as they are not there, and the plan with its look."""

    def leave(plan, errors=ERRORS, only=lambda at: True):
        plan.write()
        for at in plan.to_run:
            if not only(at):
                continue
            if errors[at.arm] == "stopped":
                record = make_record(4.0, at.seed, "stopped", cell_hash=at.cell.hash, stopped_by=plan.scheduler)
            else:
                record = make_record(errors[at.arm][at.seed], at.seed, cell_hash=at.cell.hash)
            at.cell.folder.mkdir(parents=True, exist_ok=True)
            (at.cell.folder / "record.json").write_text(json.dumps(record))
        with_look(plan.refreshed()).write()

    return leave


def seeds_of(plan):
    found = {arm.name: [] for arm in plan.arms}
    for at in plan.cells:
        found[at.arm].append(at.seed)
    return {arm: len(own) for arm, own in found.items() if own == list(range(len(own)))}


def test_verdicts_are_those_of_the_report_at_that_number_of_seeds(plan, train):
    train(plan())
    assert verdicts(plan(), 3) == {
        "close": "no difference shown",
        "worse": "worse",
        "equal": "equivalent",
        "gone": "stopped",
    }
    assert set(verdicts(plan(), 2).values()) == {"not enough seeds", "stopped"}


def test_only_undecided_arms_and_the_baseline_get_more_seeds(plan, train):
    train(plan())
    more = only_undecided(plan(5), 5)
    assert seeds_of(more) == {"base": 5, "close": 5, "worse": 3, "equal": 3, "gone": 3}
    assert more.notes == (
        "Seeds were added only where an earlier look was undecided: up to 5 for base, close; worse (worse), equal "
        "(equivalent), gone (stopped) keep 3. Each arm is compared on the seeds that it shares with the baseline.",
    )


def test_the_same_call_goes_on_after_an_interruption_and_is_done_when_done(plan, train):
    train(plan())
    more = only_undecided(plan(5), 5)
    train(more, only=lambda at: at.seed < 4)
    again = only_undecided(plan(5), 5)
    assert seeds_of(again) == seeds_of(more) and again.notes == more.notes
    assert {(at.arm, at.seed) for at in again.to_run} == {("base", 4), ("close", 4)}
    train(again)
    done = only_undecided(plan(5), 5)
    assert seeds_of(done) == seeds_of(more) and not done.to_run and done.looks == (3, 5)


def test_a_run_of_all_arms_that_was_left_can_go_on_with_the_undecided_ones(plan, train):
    train(plan())
    train(without_stopped(plan(5)), only=lambda at: (at.arm, at.seed) == ("worse", 3))
    assert seeds_of(only_undecided(plan(5), 5)) == {"base": 5, "close": 5, "worse": 4, "equal": 3, "gone": 3}


def test_a_later_plain_run_keeps_all_and_more_seeds_for_all_are_one_word_away(plan, train):
    train(plan())
    train(only_undecided(plan(5), 5))
    plain = without_stopped(plan(3))
    assert seeds_of(plain) == {"base": 5, "close": 5, "worse": 3, "equal": 3, "gone": 3} and not plain.to_run
    assert "keep 3" in plain.notes[0], "the report goes on saying so"
    for_all = without_stopped(plan(5))
    assert seeds_of(for_all) == {"base": 5, "close": 5, "worse": 5, "equal": 5, "gone": 3}, "a stopped arm gets none"


def test_a_third_look_goes_by_the_verdicts_of_the_second(plan, train):
    train(plan())
    train(only_undecided(plan(5), 5))
    more = only_undecided(plan(6), 6)
    assert verdicts(plan(6), 5)["close"] == "no difference shown"
    assert seeds_of(more) == {"base": 6, "close": 6, "worse": 3, "equal": 3, "gone": 3}
    train(more)
    assert plan(6).looks == (3, 5, 6)


def test_where_nothing_is_decided_all_get_more_and_it_is_said(plan, train):
    text = MATRIX.replace(", worse: {dropout: 0.12}, equal: {dropout: 0.13}, gone: {dropout: 0.14}", "")
    train(plan(3, text))
    more = only_undecided(plan(5, text), 5)
    assert seeds_of(more) == {"base": 5, "close": 5}
    assert more.notes == ("No arm is decided at 3 seeds, so all of them get more.",)


def test_with_one_or_two_seeds_every_arm_is_undecided_but_a_stopped_one(plan, train):
    train(plan(2))
    assert seeds_of(only_undecided(plan(3), 3)) == {"base": 3, "close": 3, "worse": 3, "equal": 3, "gone": 2}


def test_an_arm_that_is_new_or_was_changed_gets_all_seeds(plan, train):
    train(plan())
    text = MATRIX.replace("worse: {dropout: 0.12}", "worse: {dropout: 0.2}, new: {dropout: 0.3}")
    assert seeds_of(only_undecided(plan(5, text), 5)) == {
        "base": 5,
        "close": 5,
        "worse": 5,
        "new": 5,
        "equal": 3,
        "gone": 3,
    }


def test_where_all_is_decided_nothing_is_trained_and_it_is_said(plan, train):
    text = MATRIX.replace("close: {dropout: 0.11}, ", "")
    train(plan(3, text))
    more = only_undecided(plan(5, text), 5)
    assert not more.to_run and set(seeds_of(more).values()) == {3}
    assert more.notes == (
        "No arm gets more seeds, since none is undecided at 3: worse (worse), equal (equivalent), gone (stopped).",
    )


def test_undecided_without_a_report_or_without_more_seeds_is_refused(plan, train):
    with pytest.raises(UserError, match=r"no report on all cells of matrix 'm' on .* yet; run it without --undecided"):
        only_undecided(plan(5), 5)
    train(plan(), only=lambda at: at.seed < 2)
    with pytest.raises(UserError, match="no report on all cells"):
        only_undecided(plan(5), 5)
    train(plan())
    with pytest.raises(UserError, match="has 3 seeds, got --seeds 3; ask for more"):
        only_undecided(plan(3), 3)


def test_a_look_counts_once_and_only_with_every_cell_settled(plan, train):
    assert with_look(plan()).looks == () and looks_of(plan()) == (3,), "a report on part of the cells is one to read"
    train(plan(), only=lambda at: at.seed < 2)
    assert plan().looks == ()
    train(plan())
    assert plan().looks == with_look(plan()).looks == looks_of(plan()) == (3,)
    assert with_look(plan(5)).looks == (3,) and looks_of(plan(5)) == (3, 5)
    train(plan(5))
    assert with_look(plan(3)).looks == (3, 5), "which reports on all five"


def test_a_search_has_no_looks_and_no_undecided_arms(plan, train):
    text = MATRIX.replace("{type: futility}", "none") + "kind: search"
    with pytest.raises(UserError, match="no report on all cells"):
        only_undecided(plan(5, text), 5)
    train(plan(3, text), {**ERRORS, "gone": [3.1] * 6})
    assert with_look(plan(3, text)).looks == looks_of(plan(3, text)) == ()
    more = only_undecided(plan(5, text), 5)
    assert not more.to_run and set(seeds_of(more).values()) == {3}
    assert "A search has no verdicts" in more.notes[0]


def test_all_seeds_of_an_arm_that_is_being_stopped_stay_in_the_plan(plan, train):
    train(plan(), only=lambda at: at.arm == "gone" and at.seed < 2)
    assert isinstance(plan().matrix.scheduler, Futility)
    assert seeds_of(without_stopped(plan()))["gone"] == 3
    assert seeds_of(without_stopped(plan(5)))["gone"] == 3


def test_the_command_says_which_arms_get_seeds(plan, train, tmp_path, capsys):
    settings = {"sensors": 8, "days": 8, "patch_len": 3}
    data = load(DatasetConfig(name="simulated", sensors=8, days=8))
    train(plan(3, data=data, settings=settings))
    options = [f"--set={name}={value}" for name, value in settings.items()]
    options += ["--profile", "quick", "--out", str(tmp_path / "runs"), "--probe-seconds", "0", "--dry-run"]
    assert main(["ablate", str(tmp_path / "m.yaml"), *options, "--seeds", "5", "--undecided"]) == 0
    printed = capsys.readouterr().out
    assert "up to 5 for base, close; worse (worse), equal (equivalent), gone (stopped) keep 3" in printed
    assert "19 cells, 4 to run" in printed
    assert main(["ablate", str(tmp_path / "m.yaml"), *options, "--seeds", "5"]) == 0
    assert "23 cells, 8 to run" in capsys.readouterr().out, "without it every arm that was not stopped"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": []}', '{"cells": [{}], "looks": 3}', '{"looks": ["x"]}'])
def test_a_damaged_plan_of_before_is_as_none(text, plan):
    folder = plan().folder
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(text)
    assert plan().looks == () and seeds_of(plan()) == dict.fromkeys(ERRORS, 3)
