"""Reading a tuning plan: what is shipped, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.tuning.plan import PARTS, load_tuning
from altformer.errors import UserError
from experiments.compose import find_experiment

SHIPPED = Path(__file__).parents[3] / "experiments" / "tuning.yaml"


def test_the_shipped_plan_is_the_guides():
    tuning = load_tuning(find_experiment("tuning"), "full")
    assert (tuning.settings, tuning.objective) == ({"loss": "mae_unmasked"}, "val_mae_unmasked")
    first = tuning.stages["quick_validation"]
    assert (first.epochs, first.baseline, tuning.stages["full_training"].epochs) == (10, "phase1", 150)
    gate = first.gate
    assert (gate.below.value, gate.below.then) == (4.0, "full_training")
    assert (gate.above.value, gate.above.then) == (4.5, "phase1_only")
    assert (gate.between, gate.dataset) == ("fine_tuning", "METR-LA")
    assert set(tuning.stages["phase1_only"].grid) == {"lr", "batch_size"}, "only these two"
    assert tuning.stages["phase1_only"].start == "base"
    assert set(tuning.stages["fine_tuning"].grid) == {"lr", "embed_dim", "dropout"}
    assert tuning.stages["fine_tuning"].scheduler.type == "asha"
    assert tuning.stages["ensemble"].sizes == [3, 4, 5]
    ways = ["full_training", "phase1_only", "fine_tuning", "augmentation", "regularization", "ensemble"]
    following = [tuning.following(name) for name in ways]
    assert following == ["ensemble", "ensemble", "augmentation", "regularization", "ensemble", "distillation"]
    assert [tuning.following(name) for name in ("distillation", "postprocessing", "datasets")] == [
        "postprocessing",
        "datasets",
        "end",
    ]


def test_the_shipped_goals_are_the_guides():
    goals = load_tuning(SHIPPED, "full").goals
    assert (goals.dataset, goals.epochs) == ("METR-LA", 150)
    assert {part: (one.conservative, one.aggressive) for part in PARTS if (one := goals.of(part))} == {
        "initial": (5.0, 4.5),
        "converged": (4.0, 3.5),
        "final": (3.8, 3.5),
    }


@pytest.mark.parametrize(("profile", "peak"), [("quick", 4.0e-3), ("full", 1.0e-3)])
def test_the_peak_of_one_cycle_fits_the_length_of_the_profile(profile, peak):
    arms = load_tuning(SHIPPED, profile).stages["quick_validation"].arms
    assert {arms[name]["scheduler"]["max_lr"] for name in ("onecycle", "phase1_optimized")} == {peak}


def test_a_profile_has_its_own_values():
    quick = load_tuning(SHIPPED, "quick")
    assert quick.stages["quick_validation"].epochs is None, "as the profile says"
    assert quick.stages["ensemble"].sizes == [3]


def test_the_command_line_chooses_the_sampler_of_every_search():
    stages = load_tuning(SHIPPED, "full", "tpe").stages.values()
    assert {stage.sampler for stage in stages if stage.type == "search"} == {"tpe"}


# one change to the shipped file: what is written instead, and what the message says
MISTAKES = {
    "a key of a gate": ("between: fine_tuning", "betwen: x", ["betwen", "did you mean 'between'"]),
    "a key of a stage": ("    baseline: phase1", "    base_line: phase1", ["'base_line'; did you mean 'baseline'"]),
    "a key of the plan": ("objective: ", "objektive: ", ["'objektive'; did you mean 'objective'"]),
    "a kind of stage": ("type: ensemble", "type: ensembel", ["'ensembel'; did you mean 'ensemble'"]),
    "no kind of stage": ("    type: ensemble\n", "", ["'stages.ensemble.type' is missing"]),
    "a later stage": ("then: full_training", "then: ful_training", ["later stage", "did you mean 'full_training'"]),
    "a stage before": ("    next: ensemble", "    next: quick_validation", ["unknown later stage 'quick_validation'"]),
    "a kind of dimension": ("type: uniform", "type: unifrom", ["'unifrom'; did you mean 'uniform'"]),
    "a key of a dimension": ("step: 0.01", "stepp: 0.01", ["'stepp'; did you mean 'step'"]),
    "a dimension's field": ("      dropout: {type", "      droput: {type", ["'droput'; did you mean 'dropout'"]),
    "a key of a scheduler": ("full: 10}, reduction_factor", "full: 10}, factor", ["'factor'", "reduction_factor"]),
    "a baseline": ("baseline: winner", "baseline: winer", ["'winer'; did you mean 'winner'"]),
    "a setting": ("{loss: mae", "{los: mae", ["'los'; did you mean 'loss'"]),
    "thresholds": ("value: 4.5", "value: 3.5", ["above must not be less than below (4.0), above is 3.5"]),
    "a goal": ("aggressive: 4.5", "agressive: 4.5", ["'agressive'; did you mean 'aggressive'"]),
    "a goal's part": ("  converged: {", "  convergd: {", ["'convergd'; did you mean 'converged'"]),
    "a goal's order": ("aggressive: 4.5", "aggressive: 5.5", ["must not be above conservative 5.0, it is 5.5"]),
    "a method": ("[exponential, kalman]", "[exponential, kalmann]", ["'exponential' or 'kalman'", "got 'kalmann'"]),
    "an objective": ("val_mae_unmasked", "val_mae_unmaskd", ["did you mean 'val_mae_unmasked'"]),
    "a base": ("base: METR-LA_alternating", "base: METR-LA_alternatin", ["did you mean 'METR-LA_alternating.yaml'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_shown_where_it_stands(name, tmp_path):
    written, instead, messages = MISTAKES[name]
    text = SHIPPED.read_text()
    assert written in text
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace(written, instead, 1))
    line = text[: text.index(written)].count("\n") + 1
    with pytest.raises(UserError) as caught:
        load_tuning(path, "full").base_file  # noqa: B018
    for message in messages:
        assert message in str(caught.value)
    place = int(str(caught.value).split(":")[1])
    assert str(caught.value).startswith(f"{path}:") and abs(place - line) <= 3, f"{caught.value} (line {line})"


def test_a_search_by_tpe_needs_a_space(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("base: simulated\nstages:\n  s: {type: search, sampler: tpe, grid: {lr: [0.1]}}\n")
    with pytest.raises(UserError, match=r"plan\.yaml:3: sampler tpe needs a space"):
        load_tuning(path, "full")
