"""``tune_per_arm``: every arm gets the values that do best for it on validation, before anything is compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.candidates import TUNING_SEED
from ablations.cells import read_cells
from ablations.drafts import make_draft
from ablations.matrix import load_matrix
from altformer.data.traffic import TrafficData
from altformer.errors import UserError
from experiments.cell import Machine
from experiments.cli import main
from tests.small import SMALL, as_settings

MATRIX = """
name: fair
base: simulated.yaml
arms:
  small: {}
  large: {dropout: 0.2}
baseline: small
seeds: 2
scheduler: none
tune_per_arm: {lr: [0.001, 0.003, 0.01]}
"""
SETTINGS = {**SMALL, "epochs": 2, "steps_per_epoch": 3}


@pytest.fixture
def draft(traffic, tmp_path):
    def make(text=MATRIX, data=traffic, profile="quick", **changes):
        path = tmp_path / "fair.yaml"
        path.write_text(text)
        arguments = {"dataset": None, "settings": {}, "seeds": 2, "out": tmp_path / "runs"} | changes
        return make_draft(load_matrix(path), data, Machine(), profile=profile, **arguments)

    return make


@pytest.fixture
def settle(make_record):
    """Leave records of candidates: by name a validation MAE, or a status."""

    def leave(plan, found):
        for at in plan.cells:
            if at.arm not in found:
                continue
            one = found[at.arm]
            value, status = (3.0, one) if isinstance(one, str) else (one, "done")
            record = make_record(10 - value, at.seed, status=status, cell_hash=at.cell.hash)  # test says the opposite
            if isinstance(one, float):
                record["val"]["all"]["mae"] = value
            at.cell.folder.mkdir(parents=True, exist_ok=True)
            (at.cell.folder / "record.json").write_text(json.dumps(record))

    return leave


def rates(plan):
    """The learning rate of every cell, by arm."""
    return {at.arm: at.cell.config.training.lr for at in plan.cells}


BEST = {
    "small, lr=0.001": 3.2,
    "small, lr=0.003": 3.1,
    "small, lr=0.01": 3.3,
    "large, lr=0.001": 3.0,
    "large, lr=0.003": 3.4,
    "large, lr=0.01": 3.5,
}


def test_every_arm_tries_every_value_with_a_seed_that_the_comparison_does_not_have(draft):
    found = draft()
    assert [at.arm for at in found.tuning.cells] == list(BEST)
    assert {at.cell.config.seed for at in found.tuning.cells} == {at.seed for at in found.tuning.cells} == {TUNING_SEED}
    assert rates(found.tuning) == {name: float(name.rpartition("=")[2]) for name in BEST}
    assert found.tuning.matrix.scheduler.type == "none" and found.tuning.matrix.kind == "search"
    assert found.tuning.folder != found.provisional().folder and not found.is_tuned
    assert {at.seed for at in found.provisional().cells} == {0, 1}


def test_the_best_on_validation_is_chosen_whatever_the_test_set_says(draft, settle):
    found = draft()
    settle(found.tuning, BEST)
    assert found.is_tuned
    plan = found.plan()
    assert rates(plan) == {"small": 0.003, "large": 0.001}
    assert plan.notes == (
        "The best lr is at the end of the list [0.001, 0.003, 0.01] for large (0.001): a better one may lie beyond it, "
        "so widen the list.",
    )
    assert "large: lr=0.001 3.0000, lr=0.003 3.4000, lr=0.01 3.5000" in plan.tuned.note


@pytest.mark.parametrize("status", ["diverged", "failed", "stopped"])
def test_a_candidate_without_a_result_loses(status, draft, settle):
    found = draft()
    settle(found.tuning, {**BEST, "small, lr=0.003": status})
    assert rates(found.plan()) == {"small": 0.001, "large": 0.001}
    assert found.is_tuned == (status == "diverged"), "the others are tried again"


def test_an_arm_whose_candidates_all_diverge_keeps_the_bases_value_and_it_is_said(draft, settle):
    found = draft()
    settle(found.tuning, {name: "diverged" if name.startswith("large") else value for name, value in BEST.items()})
    plan = found.plan()
    assert rates(plan)["large"] == 0.0005, "the base's, not the profile's: no arm takes a tuned field from there"
    assert plan.notes == ("Arm large has no tuned values: every candidate diverged; it keeps those of the base.",)
    assert plan.tuned.content()["arms"]["large"]["chosen"] is None
    settle(found.tuning, dict.fromkeys(BEST, "diverged"))
    assert rates(found.plan()) == {"small": 0.0005, "large": 0.0005} and len(found.plan().notes) == 2


def test_of_equal_candidates_the_first_is_chosen(draft, settle):
    found = draft()
    settle(found.tuning, dict.fromkeys(BEST, 3.0))
    assert rates(found.plan()) == {"small": 0.001, "large": 0.001}


def test_the_choice_is_written_beside_the_plan_and_made_anew_for_another_list(draft, settle):
    found = draft()
    settle(found.tuning, BEST)
    plan = found.plan()
    plan.write()
    written = json.loads((plan.folder / "tuned.json").read_text())
    assert written["arms"]["small"]["chosen"] == {"lr": 0.003} and written["seed"] == TUNING_SEED
    assert [one["val_mae"] for one in written["arms"]["small"]["candidates"]] == [3.2, 3.1, 3.3]
    assert found.plan().is_written()
    other = draft(MATRIX.replace("0.003, 0.01", "0.01"))
    assert other.is_tuned and rates(other.plan()) == {"small": 0.001, "large": 0.001}
    assert not other.plan().is_written()
    assert not draft(MATRIX.replace("0.003,", "0.002, 0.003,")).is_tuned, "a new value has to be tried"


def test_several_fields_are_tuned_together_and_one_value_may_be_for_each_profile(draft, settle):
    text = MATRIX.replace("{lr: [0.001, 0.003, 0.01]}", "{lr: {quick: [0.001, 0.003], full: [0.1]}, clip_norm: [1, 5]}")
    assert [at.arm for at in draft(text).tuning.cells][:4] == [
        "small, lr=0.001, clip_norm=1",
        "small, lr=0.001, clip_norm=5",
        "small, lr=0.003, clip_norm=1",
        "small, lr=0.003, clip_norm=5",
    ]
    assert len(draft(text, profile="full").tuning.cells) == 4


def test_an_arm_that_needs_a_graph_is_not_tuned_without_one(draft, settle):
    text = MATRIX.replace("arms:", "needs_graph: [graph]\narms:\n  graph: {graph_bias: true}")
    data: TrafficData = draft().tuning.data
    assert data.adjacency is None
    found = draft(text)
    assert [at.arm for at in found.tuning.cells] == list(BEST)
    settle(found.tuning, BEST)
    assert rates(found.plan()).keys() == {"small", "large"}


def test_without_tune_per_arm_there_is_one_phase(draft):
    found = draft(MATRIX.replace("tune_per_arm", "#"))
    assert found.is_tuned and found.tuning is None and found.plan().tuned is None
    assert not (found.plan().folder / "tuned.json").exists()


MISTAKES = {
    "an unknown field": ("{lrr: [1]}", "", ["fair.yaml:10: ", "unknown field 'lrr'", "did you mean 'lr'"]),
    "an arm's own field": (
        "{training.dropout: [0.1]}".replace("training.", ""),
        "",
        ["fair.yaml:10: ", "dropout is set by arm 'large' itself", "fair.yaml:6"],
    ),
    "a whole section that an arm sets a field of": ("{model.dropout: [0.1]}", "", ["is set by arm 'large' itself"]),
    "a field of the settings": (
        "{lr: [0.1]}",
        "settings: {lr: 0.1}",
        ["fair.yaml:10: ", "lr is set by settings: itself"],
    ),
    "one field twice": (
        "{lr: [0.1], training.lr: [0.2]}",
        "",
        ["fair.yaml:10: ", "'training.lr' and 'lr' are one field"],
    ),
    "a value twice": ("{lr: [0.1, 0.2, 0.1]}", "", ["fair.yaml:10: ", "lr: the value 0.1 is given twice"]),
    "in a search": ("{lr: [0.1]}", "kind: search", ["fair.yaml:10: ", "tune_per_arm is for a comparison", "grid:"]),
    "no values": ("{lr: []}", "", ["fair.yaml:10: ", "tune_per_arm.lr: takes at least 1 value"]),
    "no list": ("{lr: 0.1}", "", ["fair.yaml:10: ", "takes a list of values, got 0.1"]),
    "the seed": ("{seed: [1]}", "", ["seed: a matrix runs every arm with the seeds 0..N-1"]),
    "the data set": ("{sensors: [8, 9]}", "", ["an arm cannot be another data set"]),
    "a value that the field does not take": ("{lr: [0.1, -1]}", "", ["small, lr=-1", "greater than 0"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_with_its_place_before_anything_runs(case, draft):
    tuned, more, expected = MISTAKES[case]
    text = MATRIX.replace("{lr: [0.001, 0.003, 0.01]}", tuned) + more
    with pytest.raises(UserError) as caught:
        draft(text)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize("field", ["lr", "training.lr"])
def test_set_may_not_name_a_tuned_field(field, draft):
    with pytest.raises(UserError, match=rf"--set {field}: every arm is tuned over lr \(.*fair\.yaml:10\)"):
        draft(settings={field: 0.1})


def options(out, *more):
    return ["--out", str(out), "--profile", "quick", "--probe-seconds", "0", *as_settings(SETTINGS), *more]


def test_a_dry_run_shows_both_phases_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "fair.yaml"
    path.write_text(MATRIX)
    assert main(["ablate", str(path), *options(tmp_path / "runs", "--dry-run")]) == 0
    printed = capsys.readouterr().out
    assert "large, lr=0.01" in printed and "Then the comparison" in printed
    assert "10 cells, 10 distinct, 0 shared, 10 to run" in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_the_whole_way_left_in_the_tuning_phase_and_gone_on_with(tmp_path, capsys):
    out, path = tmp_path / "runs", tmp_path / "fair.yaml"
    path.write_text(MATRIX.replace("scheduler: none", "scheduler: futility"))
    assert main(["ablate", str(path), *options(out, "--max-cells", "2")]) == 3
    assert "the same command goes on" in capsys.readouterr().out
    assert len(list(out.glob("cells/*/record.json"))) == 2 and not list(out.glob("fair-simulated-*"))

    assert main(["ablate", str(path), *options(out)]) == 0
    [folder], [tuning] = out.glob("fair-simulated-*"), out.glob("fair-tuning-simulated-*")
    tuned = json.loads((folder / "tuned.json").read_text())["arms"]
    tried = {row["arm"]: row for row in read_cells(tuning / "cells.csv")}
    assert len(tried) == 6
    for arm, own in tuned.items():
        values = {one["values"]["lr"]: one["val_mae"] for one in own["candidates"]}
        assert own["chosen"] == {"lr": min(values, key=values.__getitem__)}
        assert values == {rate: tried[f"{arm}, lr={rate}"]["val_mae"] for rate in values}
    rows = read_cells(folder / "cells.csv")
    for row in rows:
        config = json.loads((out / "cells" / row["cell_hash"] / "record.json").read_text())["config"]
        assert config["training"]["lr"] == tuned[row["arm"]]["chosen"]["lr"] and row["seed"] in (0, 1)
    assert "test" not in (tuning / "report.md").read_text().replace("The test set played no part", "")
    assert "Values tuned for each arm" in (folder / "report.md").read_text()

    written = _times(out)
    capsys.readouterr()
    assert main(["ablate", str(path), *options(out)]) == 0
    assert "4 cells, 0 to run" in capsys.readouterr().out
    assert _times(out) == written


def _times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [*out.glob("cells/*/record.json"), *out.glob("fair*/[!.]*.*")]}
