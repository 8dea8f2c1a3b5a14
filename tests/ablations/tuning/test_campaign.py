"""Whole campaigns with a fake in place of the cluster: ways, choices, resuming, ledger."""

from __future__ import annotations

import json

import pytest

from ablations.reported import read_reported
from ablations.reports.files import write_tables
from ablations.running import run_plan
from ablations.tuning import winner_stages
from ablations.tuning.campaign import Campaign, Winner, stage_arms
from ablations.tuning.ledger import Ledger
from ablations.tuning.outcome import DECISIONS
from ablations.tuning.plan import load_tuning
from ablations.tuning.run import run_campaign
from altformer.data.simulated import simulate
from altformer.errors import UserError
from altformer.files import write_json
from experiments.cell import Machine
from experiments.compose import compose, find_experiment

PLAN = """
base: simulated
settings: {loss: mae_unmasked, embed_dim: 8, num_heads: 2, adaptive_dim: 4, patch_len: 3, sensors: 6, days: 3}
objective: val_mae_unmasked
stages:
  quick_validation:
    type: arms
    start: base
    epochs: {quick: null, full: 10}
    seeds: 1
    arms:
      phase1: {}
      onecycle: {scheduler: {type: OneCycleLR, max_lr: 1.0e-3, pct_start: 0.3}}
      cross_attn: {fusion_type: cross_attn}
    gate:
      dataset: simulated
      below: {value: 4.0, then: full_training}
      above: {value: 4.5, then: phase1_only}
      between: fine_tuning
  full_training: {type: arms, epochs: {quick: null, full: 150}, seeds: 1, arms: {winner: {}}, next: ensemble}
  phase1_only:
    type: search
    start: base
    grid: {lr: [1.0e-4, 1.0e-3], batch_size: [16, 32]}
    space: {lr: {type: loguniform, low: 1.0e-4, high: 2.0e-3}, batch_size: {type: choice, values: [16, 32]}}
    scheduler: {type: asha, grace_period: 1}
    next: ensemble
  fine_tuning:
    type: search
    arms: {start: {}}
    grid: {lr: [1.0e-4, 1.0e-3], dropout: [0.1, 0.2]}
    space:
      lr: {type: loguniform, low: 1.0e-4, high: 2.0e-3}
      dropout: {type: uniform, low: 0.1, high: 0.3, step: 0.01}
    rounds: 3
    round_size: 3
    scheduler: {type: asha, grace_period: 1}
  regularization:
    type: arms
    seeds: 2
    arms: {winner: {}, dropout_0.1: {dropout: 0.1}, weight_decay: {weight_decay: 5.0e-4}, cutmix: {cutmix_prob: 0.5}}
    baseline: winner
  ensemble: {type: ensemble, sizes: [3, 4]}
  distillation: {type: distillation, student: {temporal_depth_1: 1, spatial_depth_1: 1}, seeds: 1, weights: [0.3, 0.7]}
  postprocessing: {type: postprocessing}
  datasets: {type: datasets, datasets: [simulated], seeds: 2}
"""


class Interrupted(BaseException):
    """Ends a campaign from outside."""


class Cluster:
    """Writes a record for every cell that is to run: ``level`` plus what its configuration adds; counts them.

    Only ASHA stops a cell, at half its epochs; any other stage trains the same cell to its end.
    """

    def __init__(self, make_record, level=4.2, status=lambda config: "done", cells_left=None):
        self._make_record, self._level, self._status = make_record, level, status
        self._cells_left = cells_left
        self.trained = []

    def __call__(self, plan):
        for at in plan.to_run:
            if self._cells_left is not None:
                if self._cells_left == 0:
                    raise Interrupted
                self._cells_left -= 1
            self.trained.append(at.cell.hash)
            write_json(at.cell.folder / "record.json", self._record(plan, at.cell))
        finished = run_plan(plan.refreshed(), self._no_ray, None, train=False, report_with=write_tables)
        return finished

    def _no_ray(self):
        raise AssertionError("nothing is left to run")

    def _record(self, plan, cell):
        value, status = self.value(cell.config), self._status(cell.config)
        if status == "stopped" and plan.scheduler["type"] != "asha":
            status = "done"
        epochs = min(cell.config.training.epochs, 6) // (2 if status == "stopped" else 1)
        record = self._make_record(value, cell.config.seed, status, epochs=epochs, params=1000)
        for epoch in record["curve"]:
            epoch["val_mae_unmasked"] = value + 1 / epoch["epoch"] if epoch["epoch"] < epochs else value
        return {
            **record,
            "cell_hash": cell.hash,
            "config": cell.config.model_dump(mode="json"),
            "dataset": plan.data.name,
            "profile": plan.profile,
            "val": {**record["val"], "mae_unmasked": value} if status == "done" else None,
            "stopped_by": plan.scheduler if status == "stopped" else None,
            "provenance": {**record["provenance"], "matrix": plan.folder.name},
        }

    def value(self, config):
        training, model = config.training, config.model
        rate = training.scheduler.max_lr if training.scheduler.type == "OneCycleLR" else training.lr
        better = 0.2 * (training.scheduler.type == "OneCycleLR") + 0.02 * (training.cutmix_prob > 0)
        return self._level - better + abs(rate - 1e-3) * 10 + model.dropout / 10 + 0.001 * config.seed


@pytest.fixture(autouse=True)
def no_models(monkeypatch, make_record):
    """No cell of the fake has weights: averages and corrections get made-up scores."""

    def made_up(value):
        record = make_record(value)
        return {"val": {**record["val"], "mae_unmasked": value}, "test": record["test"]}

    def postprocessed(runs, methods):
        each = [{"method": name, "parameter": "p", "value": 0.5, **made_up(3.7 + len(name) / 100)} for name in methods]
        return {**made_up(4.0), "methods": each}

    monkeypatch.setattr(winner_stages, "_ensemble", lambda runs: made_up(3.9 - len(runs) / 100))
    monkeypatch.setattr(winner_stages, "_postprocessed", postprocessed)


@pytest.fixture
def campaign(tmp_path):
    def make(profile="full", sampler=None, text=PLAN, settings=None, **changes):
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        tuning = load_tuning(path, profile, sampler)
        given = {
            "tuning": tuning,
            "data": simulate(6, 3, 0),
            "machine": Machine(),
            "dataset": None,
            "profile": profile,
            "settings": settings or {},
            "seeds": None,
            "out": tmp_path / "runs",
        }
        return Campaign(**{**given, **changes})

    return make


def decisions(campaign):
    return [json.loads(line) for line in (campaign.folder / DECISIONS).read_text().splitlines()]


def ledger(campaign):
    return Ledger(campaign.out.resolve(), campaign.folder.name).entries


def settled_by_a_later_stage(config):
    """ASHA stops a dropout of 0.2, which is best at the end."""
    return "stopped" if config.model.dropout == 0.2 else "done"


class LateBloomer(Cluster):
    def value(self, config):
        return super().value(config) - 0.5 * (config.model.dropout == 0.2)


def test_what_a_later_stage_finishes_changes_no_earlier_decision(campaign, make_record):
    text = PLAN.replace("dropout_0.1: {dropout: 0.1}", "dropout_0.2: {dropout: 0.2}")
    run = campaign(text=text)
    assert run_campaign(run, LateBloomer(make_record, 4.3, settled_by_a_later_stage)) == 0
    before = decisions(run)
    found = {entry["stage"]: entry for entry in before}
    assert found["fine_tuning"]["candidates"]["lr=0.001,dropout=0.2"] is None, "stopped"
    assert found["regularization"]["winner"] == "dropout_0.2", "the very cell, trained to its end"
    assert set(found["fine_tuning"]["cells"]) & set(found["regularization"]["cells"])
    assert run_campaign(campaign(text=text), again := LateBloomer(make_record, 4.3, settled_by_a_later_stage)) == 0
    assert again.trained == [] and decisions(run) == before
    report = (run.folder / "report.md").read_text()
    assert "it was decided by -, and that decision stands" in report


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_what_another_matrix_finishes_changes_no_way_and_no_question(sampler, campaign, make_record):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    run = campaign(sampler=sampler)
    assert run_campaign(run, Cluster(make_record, 4.3, not_all_done)) == 0
    before, finished = decisions(run), 0
    for path in run.out.glob("cells/*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] == "stopped":
            scores = make_record(2.0, record["seed"])
            done = {"status": "done", "val": {**scores["val"], "mae_unmasked": 2.0}, "test": scores["test"]}
            write_json(path, {**record, **done})
            finished += 1
    assert finished or sampler == "grid"
    assert run_campaign(campaign(sampler=sampler), again := Cluster(make_record, 4.3, not_all_done)) == 0
    assert again.trained == [] and decisions(run) == before


GOALS = """
goals:
  dataset: simulated
  epochs: 150
  initial: {conservative: 5.2, aggressive: 5.0}
  converged: {conservative: 4.1, aggressive: 4.0}
  final: {conservative: 3.8, aggressive: 3.5}
"""


def goal_rows(run):
    section = (
        (run.folder / "report.md")
        .read_text()
        .replace("\\", "")
        .replace("&lt;", "<")
        .split("## Goals")[1]
        .split("## ")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "<" in line]
    return {row[0]: row[1:] for row in rows}, section


def test_goals_are_judged_on_the_winner_with_the_numbers_that_were_measured(campaign, make_record, capsys):
    run = campaign(text=PLAN + GOALS)
    assert run_campaign(run, Cluster(make_record, 4.3)) == 0
    rows, section = goal_rows(run)
    assert {name: row[3:] for name, row in rows.items()} == {
        "initial": ["< 5.2: reached", "< 5: missed"],
        "converged": ["< 4.1: reached", "< 4: missed"],
        "final": ["< 3.8: reached", "< 3.5: missed"],
    }
    assert [rows[name][1] for name in rows] == ["4", "4", "1"], "seeds"
    assert float(rows["initial"][2]) == pytest.approx(float(rows["converged"][2]) + 1, abs=2e-4)
    assert rows["final"][0] == "postprocessing: kalman, p 0.5" and rows["final"][2] == "3.7600"
    assert "Not judged" not in section and "Goal converged: 4.09" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"profile": "quick"}, "quick: the guide's thresholds are not meant for these numbers"),
        ({"settings": {"steps_per_epoch": 5}}, "steps_per_epoch 5: the guide's thresholds are of whole epochs"),
        ({"settings": {"epochs": 20}}, "epochs 20: the guide's thresholds are of 150"),
        ({"text": PLAN + GOALS.replace("simulated", "METR-LA")}, "simulated: the guide's thresholds are of METR-LA"),
    ],
)
def test_goals_that_are_not_meant_are_measured_and_not_judged(change, why, campaign, make_record):
    run = campaign(**{"text": PLAN + GOALS, **change})
    assert run_campaign(run, Cluster(make_record, 4.3)) == 0
    rows, section = goal_rows(run)
    assert f"Not judged here: {why}" in section
    assert all(float(row[2]) > 3 and row[3].endswith("not judged") for row in rows.values())


REST = ["ensemble", "distillation", "postprocessing"]


@pytest.mark.parametrize(
    ("level", "stages"),
    [
        (4.0, ["quick_validation", "full_training", *REST]),
        (4.3, ["quick_validation", "fine_tuning", "regularization", *REST]),
        (5.0, ["quick_validation", "phase1_only", *REST]),
    ],
)
def test_the_gate_leads_the_way(level, stages, campaign, make_record, capsys):
    run = campaign()
    assert run_campaign(run, Cluster(make_record, level)) == 0
    assert [entry["stage"] for entry in decisions(run)] == stages
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("Decision after")]) == len(stages)
    report = (run.folder / "report.md").read_text()
    assert "Every choice was made on validation" in report
    for stage in stages:
        assert stage in report
    assert list(run.folder.glob(f"{run.folder.name}-datasets/table.*"))
    for plan in run.folder.glob("*/plan.json"):
        assert read_reported(plan.parent).report.arms, "a stage's folder can be read as any matrix's"


def test_the_winner_meets_the_data_sets_as_published_numbers_are_made(campaign, make_record):
    """Tuned by the guide's scoring, but trained, selected and reported by the field's."""
    stage = "datasets: {type: datasets, datasets: [simulated], seeds: 2"
    run = campaign(text=PLAN.replace(stage, f"{stage}, settings: {{loss: masked_mae}}, objective: val_mae"))
    assert run_campaign(run, Cluster(make_record, 4.3)) == 0
    [written] = run.folder.glob("*-datasets*/plan.json")
    plan = json.loads(written.read_text())
    assert plan["matrix"]["objective"] == "val_mae" and run.tuning.objective == "val_mae_unmasked"
    for cell in plan["cells"]:
        config = json.loads((run.out / "cells" / cell["cell_hash"] / "record.json").read_text())["config"]
        assert config["training"]["loss"] == "masked_mae" and config["training"]["scheduler"]["type"] == "OneCycleLR"


@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize(("level", "way"), [(4.0, "full_training"), (4.3, "fine_tuning"), (5.0, "phase1_only")])
def test_the_shipped_plan_runs_every_way_to_its_end(level, way, profile, campaign, make_record, monkeypatch, tmp_path):
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))
    text = find_experiment("tuning").read_text().replace("dataset: METR-LA", "dataset: simulated")
    run = campaign(profile, text=text, dataset="simulated")
    assert run_campaign(run, cluster := Cluster(make_record, level)) == 0
    stages = [entry["stage"] for entry in decisions(run)]
    assert stages[1] == (way if profile == "full" else "fine_tuning")
    assert stages[-3:] == REST
    assert 10 < len(cluster.trained) < 120


def test_in_quick_the_way_is_between_and_the_gate_is_only_noted(campaign, make_record, capsys):
    run = campaign("quick")
    assert run_campaign(run, Cluster(make_record, 5.0)) == 0
    first = decisions(run)[0]
    assert first["path"] == "fine_tuning" and "by them: phase1_only" in first["reason"]
    assert "quick: the guide's thresholds are not meant for these numbers" in first["marker"]
    assert first["marker"] in capsys.readouterr().out
    assert "not comparable with published numbers" in (run.folder / "report.md").read_text()


def test_each_stage_starts_from_the_winner_and_changes_no_other_field(campaign, make_record):
    run = campaign()
    assert run_campaign(run, Cluster(make_record, 4.3)) == 0
    found = {entry["stage"]: entry for entry in decisions(run)}
    assert found["quick_validation"]["winner"] == "onecycle"
    assert found["fine_tuning"]["winner"] == "start", "the cycle's peak is best as it is"
    assert found["regularization"]["winner"] == "cutmix"
    records = {path.parent.name: json.loads(path.read_text()) for path in run.out.glob("cells/*/record.json")}
    start = records[found["quick_validation"]["cells"][1]]["config"]
    for key in found["regularization"]["cells"]:
        config = records[key]["config"]
        assert config["training"]["scheduler"] == start["training"]["scheduler"]
        assert config["model"] == start["model"]
        assert config["training"]["epochs"] == 150 and start["training"]["epochs"] == 10
    assert len(found["regularization"]["candidates"]) == 3, "dropout 0.1 is what the winner has already"
    tried = {records[key]["config"]["training"]["scheduler"]["max_lr"] for key in found["fine_tuning"]["cells"]}
    assert tried == {1e-4, 1e-3}, "over one cycle a learning rate is its peak"


def test_a_campaign_that_is_done_is_only_read(campaign, make_record):
    run = campaign()
    assert run_campaign(run, Cluster(make_record)) == 0
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*") if path.is_file() and path.name != ".lock"}
    again = Cluster(make_record)
    assert run_campaign(campaign(), again) == 0
    assert again.trained == []
    now = {path: path.stat().st_mtime_ns for path in run.out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path.name for path in now if before.get(path) != now[path]} == set()


def not_all_done(config):
    """Of what TPE proposes in this space a third diverges or is stopped."""
    if config.training.scheduler.type == "OneCycleLR" and config.training.scheduler.max_lr > 1.2e-3:
        return "diverged"
    return "stopped" if config.model.dropout > 0.22 else "done"


def _comparable(entry):
    """Without the time, and without the campaign's own name, also in that of a matrix."""
    return {key: value for key, value in entry.items() if key not in ("time", "trained_in", "campaign")}


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
@pytest.mark.parametrize("cells", [1, 4, 9, 12, 16])
def test_an_interrupted_campaign_goes_on_to_the_same_end(cells, sampler, campaign, make_record, tmp_path):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    whole = campaign(sampler=sampler, out=tmp_path / "whole")
    assert run_campaign(whole, straight := Cluster(make_record, 4.3, not_all_done)) == 0
    run = campaign(sampler=sampler)
    with pytest.raises(Interrupted):
        run_campaign(run, first := Cluster(make_record, 4.3, not_all_done, cells_left=cells))
    assert run_campaign(run, rest := Cluster(make_record, 4.3, not_all_done)) == 0
    assert [*first.trained, *rest.trained] == straight.trained
    for entries in (decisions, ledger):
        mine, straight_on = ([_comparable(one) for one in entries(each)] for each in (run, whole))
        assert mine == straight_on


def test_the_ledger_has_every_test_set_that_was_read_once(campaign, make_record):
    run = campaign()
    stopped = Cluster(make_record, 4.3, lambda config: "stopped" if config.model.dropout > 0.15 else "done")
    for _ in range(2):
        assert run_campaign(run, stopped) == 0
    entries = ledger(run)
    keys = [(entry["cell"], entry["what"]) for entry in entries]
    assert len(set(keys)) == len(keys)
    records = [json.loads(path.read_text()) for path in run.out.glob("cells/*/record.json")]
    done = {record["cell_hash"] for record in records if record["status"] == "done"}
    assert {entry["cell"] for entry in entries if entry["what"] == "cell"} == done
    assert len(done) < len(records), "a stopped cell's test set is not read"
    corrected = "postprocessing-exponential-kalman"
    assert {entry["what"] for entry in entries} == {"cell planned", "cell", "ensemble", corrected}
    assert {entry["cell"] for entry in entries if entry["what"] == "cell planned"} == set(stopped.trained)
    assert all(entry["stage"] and entry["dataset"] == "simulated" and entry["time"] for entry in entries)


def test_a_reading_is_in_the_ledger_before_it_is_made(campaign, make_record, monkeypatch):
    run = campaign()
    cluster = Cluster(make_record, 4.3)

    def planned_first(plan):
        noted = {entry["cell"] for entry in ledger(run) if entry["what"] == "cell planned"}
        assert {at.cell.hash for at in plan.to_run} <= noted
        return cluster(plan)

    def crash(runs):
        assert ledger(run)[-1]["what"] == "ensemble"
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(winner_stages, "_ensemble", crash)
        with pytest.raises(Interrupted):
            run_campaign(run, planned_first)
    assert run_campaign(run, planned_first) == 0
    cells = [entry["cell"] for entry in ledger(run) if entry["what"] == "ensemble"]
    assert len(cells) == len(set(cells)) == 2


def test_campaigns_share_the_ledger_of_a_data_set(campaign, make_record):
    first, second = campaign(), campaign(text=PLAN.replace("value: 4.5", "value: 4.6"))
    assert first.folder != second.folder
    assert run_campaign(first, Cluster(make_record, 4.3)) == 0
    path = first.out / "test_ledger-simulated.jsonl"
    before = path.read_text()
    assert run_campaign(second, again := Cluster(make_record, 4.3)) == 0
    assert again.trained == [] and ledger(second) == []
    assert path.read_text() == before, "the same models give the same numbers again: nothing new of the test set"


def test_the_tables_say_of_how_many_seeds_a_number_is(campaign, make_record):
    run = campaign(text=PLAN.replace("spatial_depth_1: 1}, seeds: 1", "spatial_depth_1: 1}, seeds: 2"))
    assert run_campaign(run, cluster := Cluster(make_record, 4.3)) == 0
    taught = next(entry for entry in decisions(run) if entry["stage"] == "distillation")
    lines = (run.folder / "report.md").read_text().split("## Distillation")[-1].splitlines()
    [student] = [line for line in lines if line.startswith("| student | 2 |")]
    assert f"| {taught['candidates']['student']:.4f} |" in student, "the mean that was decided by"
    assert [line for line in lines if line.startswith("| teacher | 1 |")] and len(cluster.trained) > 10


def test_what_diverged_or_was_stopped_cannot_win(campaign, make_record):
    def status(config):
        if config.training.scheduler.type == "OneCycleLR":
            return "diverged"
        return "stopped" if config.training.lr == 1e-3 else "done"

    run = campaign()
    assert run_campaign(run, Cluster(make_record, 4.3, status)) == 0
    found = {entry["stage"]: entry for entry in decisions(run)}
    assert found["quick_validation"]["winner"] != "onecycle"
    assert found["quick_validation"]["candidates"]["onecycle"] is None
    assert found["fine_tuning"]["candidates"]["lr=0.001,dropout=0.1"] is None


def test_where_all_diverges_the_way_is_back_to_phase_1_and_the_base_stays(campaign, make_record):
    run = campaign()
    assert run_campaign(run, Cluster(make_record, 4.3, lambda config: "diverged")) == 0
    found = decisions(run)
    assert [entry["stage"] for entry in found] == ["quick_validation", "phase1_only", *REST]
    assert found[0]["winner"] is None and found[1]["reason"] == "no arm has a value, so the start stays"


def test_a_failed_cell_ends_the_campaign_without_a_decision(campaign, make_record):
    run = campaign()
    failing = Cluster(make_record, 4.3, lambda config: "failed" if config.model.fusion_type == "cross_attn" else "done")
    assert run_campaign(run, failing) == 1
    assert not (run.folder / DECISIONS).exists()
    assert "Not finished" in (run.folder / "report.md").read_text()
    assert run_campaign(run, mended := Cluster(make_record, 4.3)) == 0
    assert len(mended.trained) == len(set(mended.trained))


@pytest.mark.parametrize(
    "change",
    [
        {"text": PLAN.replace("value: 4.0", "value: 3.9")},
        {"text": PLAN.replace("rounds: 3", "rounds: 4")},
        {"profile": "quick"},
        {"sampler": "tpe"},
        {"seeds": 2},
        {"settings": {"batch_size": 8}},
        {"machine": Machine(workers=2)},
    ],
)
def test_another_plan_or_setting_is_another_campaign(change, campaign):
    assert campaign(**change).folder != campaign().folder


@pytest.mark.parametrize(
    "text",
    [
        f"# a comment\n{PLAN}",
        f"title: Another title\n{PLAN}",
        PLAN.replace("type: ensemble,", "type: ensemble, title: Averages,"),
        PLAN + GOALS,
    ],
)
def test_comments_places_titles_and_goals_are_not_part_of_a_campaign(text, campaign):
    assert text != PLAN and campaign(text=text).folder == campaign().folder


def test_over_one_cycle_a_searched_rate_is_the_peak_and_nothing_else(campaign):
    run = campaign()
    cycle = {"lr": 5e-4, "scheduler": {"type": "OneCycleLR", "max_lr": 1e-3, "pct_start": 0.3}}
    start = Winner("onecycle", stage_arms(run, "quick_validation", Winner(), {"a": cycle}).arms["a"])
    drafts = {"start": {}, "lr=0.001": {"lr": 1e-3}, "lr=0.0001": {"lr": 1e-4}}
    found = stage_arms(run, "fine_tuning", start, drafts)
    assert found.twins == {"lr=0.001": "start"}, "its peak is the start's already"
    assert found.arms["lr=0.0001"]["training.lr"] == found.arms["start"]["training.lr"] == 5e-4
    assert found.arms["lr=0.0001"]["training.scheduler"]["max_lr"] == 1e-4


def test_arms_spell_out_what_any_of_them_sets(campaign):
    """Else the profile would set the schedule of the next stage, in which no arm does."""
    run = campaign("quick")
    found = stage_arms(run, "quick_validation", Winner(), run.tuning.stages["quick_validation"].arms)
    assert set(found.arms) == {"phase1", "onecycle", "cross_attn"}
    assert all(set(arm) == {"training.scheduler", "model.fusion_type"} for arm in found.arms.values())
    quick = compose(run.tuning.base_file, profile="quick", settings=run.tuning.settings)
    assert quick.training.scheduler.type != "constant"
    assert found.arms["phase1"]["training.scheduler"]["type"] == "constant"


def test_a_stage_that_varies_what_the_profile_had_set_starts_from_the_winner_as_it_was_trained(campaign, make_record):
    """The quick profile sets the rate of stage 1; the search over rates must not start from the base's instead."""
    run = campaign("quick")
    assert run_campaign(run, Cluster(make_record, 4.3)) == 0
    found = {entry["stage"]: entry for entry in decisions(run)}
    configs = {
        stage: [json.loads((run.out / "cells" / key / "record.json").read_text())["config"] for key in entry["cells"]]
        for stage, entry in found.items()
    }
    assert configs["quick_validation"][1]["training"]["lr"] == 2e-3, "the profile's"
    assert configs["fine_tuning"][0] == configs["quick_validation"][1], "start is the winner, and no new cell"


def test_set_on_a_field_that_an_arm_sets_is_refused_with_its_place(campaign):
    run = campaign(settings={"fusion_type": "concat"})
    with pytest.raises(UserError, match=r"--set fusion_type: arm 'cross_attn' sets this field itself.*plan\.yaml:14"):
        stage_arms(run, "quick_validation", Winner(), run.tuning.stages["quick_validation"].arms)


def test_a_winner_that_is_another_kind_of_model_is_carried_whole(campaign):
    run = campaign()
    found = stage_arms(run, "quick_validation", Winner(), {"ours": {}, "linear": {"model": {"type": "dlinear"}}})
    linear = Winner("linear", found.arms["linear"])
    again = stage_arms(run, "regularization", linear, {"winner": {}, "lower": {"lr": 1e-4}})
    assert again.arms["winner"]["model"]["type"] == "dlinear" == again.arms["lower"]["model"]["type"]
    assert again.arms["winner"]["training.lr"] != again.arms["lower"]["training.lr"] == 1e-4
    with pytest.raises(UserError, match="fusion_type does not apply to model 'dlinear'"):
        stage_arms(run, "regularization", linear, {"winner": {}, "concat": {"fusion_type": "concat"}})
