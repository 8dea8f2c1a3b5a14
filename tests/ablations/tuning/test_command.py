"""`altformer tune` from the command line: dry run, mistakes, and once the whole way through Ray."""

from __future__ import annotations

import json
import re

import pytest

from ablations.tuning.campaign import Campaign
from ablations.tuning.decision import Kind
from ablations.tuning.outcome import DECISIONS
from ablations.tuning.plan import load_tuning
from ablations.tuning.search import TpeSearch
from experiments.cli import main

LEDGER = "test_ledger-simulated.jsonl"

PLAN = """
name: small
title: A small plan
base: simulated
settings:
  {loss: mae_unmasked, num_heads: 2, adaptive_dim: 4, mlp_ratio: 2, sensors: 6, days: 3, steps_per_epoch: 3,
   val_stride: 40, test_stride: 40}
objective: val_mae_unmasked
stages:
  quick_validation:
    type: arms
    start: base
    epochs: 2
    arms:
      phase1: {embed_dim: 8}
      onecycle: {embed_dim: 8, scheduler: {type: OneCycleLR, max_lr: 1.0e-2, pct_start: 0.3}}
    gate:
      below: {value: 4.0, then: full_training}
      above: {value: 4.5, then: fine_tuning}
      between: fine_tuning
  full_training: {type: arms, epochs: 4, arms: {winner: {}}, next: ensemble}
  fine_tuning:
    type: search
    arms: {start: {}}
    grid: {lr: [1.0e-4, 1.0e-2], batch_size: [8]}
    space:
      lr: {type: loguniform, low: 1.0e-4, high: 1.0e-2}
      batch_size: {type: choice, values: [8]}
    rounds: 2
    round_size: 2
    scheduler: {type: asha, grace_period: 1, reduction_factor: 2}
  augmentation:
    type: arms
    arms: {winner: {}, noise: {augmentation: {noise_std: 0.01}}}
  ensemble: {type: ensemble, sizes: [3]}
  distillation: {type: distillation, student: {temporal_depth_1: 1, spatial_depth_1: 1}}
  postprocessing: {type: postprocessing}
  datasets: {type: datasets, datasets: [simulated]}
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PLAN)
    return path


def test_a_dry_run_says_what_each_stage_would_do_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["tune", "--dataset", "simulated", "--dry-run", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "phase1_optimized" in printed and "5 cells, 5 to run" in printed
    assert "< 4 -> full_training" in printed and "> 4.5 or no value -> phase1_only" in printed
    assert "between, both thresholds included -> fine_tuning" in printed
    assert "here -> fine_tuning in any case (quick: the guide's thresholds are not meant" in printed
    assert not out.exists()


def test_a_dry_run_in_full_follows_the_gate_of_its_own_data_set(tmp_path, capsys):
    arguments = ["--dry-run", "--profile", "full", "--out", str(tmp_path / "runs")]
    assert main(["tune", "--dataset", "simulated", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "(3 seeds, 10 epochs)" in printed and "(3 seeds, 150 epochs)" in printed
    assert "simulated: the guide's thresholds are of METR-LA" in printed


def test_a_dry_run_of_tpe_shows_rounds(plan, tmp_path, capsys):
    pytest.importorskip("optuna")
    assert main(["tune", str(plan), "--dry-run", "--sampler", "tpe", "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "2 rounds of 2, TPE over lr x batch_size (1 seed, scheduler asha); 5 cells" in printed


def test_a_dry_run_sums_the_cells_of_every_way(tmp_path, capsys, monkeypatch):
    """By full_training: 5 x 3, 3, then 5 for the averages, 1 + 4 x 3, 1, and 3 on the one data set there is."""
    monkeypatch.setattr(Campaign, "kind", lambda self, training: MEANT)
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))
    assert main(["tune", "--dataset", "simulated", "--dry-run", "--profile", "full", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "At most 40 cells by quick_validation -> full_training -> ensemble -> distillation -> postproc" in printed
    assert "At most 53 cells by quick_validation -> phase1_only -> ensemble" in printed
    assert len(re.findall("At most", printed)) == 3


MEANT = Kind("val_mae_unmasked", "full", "METR-LA", "mae_unmasked", 150, None)


def test_a_dry_run_of_tpe_proposes_what_the_run_does(tmp_path, capsys):
    pytest.importorskip("optuna")
    head, _, stages = PLAN.partition("stages:\n")
    search = stages[stages.index("  fine_tuning") : stages.index("  augmentation")]
    search = search.replace("rounds: 2\n    round_size: 2", "rounds: 4\n    round_size: 5")
    path = tmp_path / "search.yaml"
    path.write_text(f"{head}stages:\n{search}")
    assert main(["tune", str(path), "--dry-run", "--sampler", "tpe", "--out", str(tmp_path / "runs")]) == 0
    printed = "".join(capsys.readouterr().out.split())
    stage = load_tuning(path, "quick", "tpe").stages["fine_tuning"]
    first = TpeSearch(stage.space, stage.seed, startup=10).ask(5)
    assert all(f"lr={proposal.settings['lr']}" in printed for proposal in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tunin"], "did you mean 'tuning.yaml'"),
        (["--profile", "quik"], "did you mean 'quick'"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--set", "fusion_type=concat"], r"--set fusion_type: arm 'cross_attn' sets .* \(.*tuning.yaml:\d+\)"),
        (["--set", "mixup_alpha=1"], r"--set mixup_alpha: arm '\w+' sets this field itself \(.*tuning.yaml:\d+\)"),
        (["--set", "embed_dm=4"], "did you mean 'embed_dim'"),
        (["--dataset", "METR-LB"], "did you mean 'METR-LA'"),
        (["--cpus-per-worker", "5000", "--dry-run"], "5000 CPU"),
        (["--gpus-per-worker", "0.5", "--workers", "2"], "fraction of a GPU"),
    ],
)
def test_mistakes_end_with_code_2_before_anything_runs(arguments, message, tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    dataset = [] if "--dataset" in arguments else ["--dataset", "simulated"]
    assert main(["tune", *arguments, *dataset, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err, re.DOTALL), printed.err
    assert "Traceback" not in printed.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("{embed_dim: 8, scheduler", "{embed_dm: 8, scheduler", r"small.yaml:16: unknown field 'embed_dm'"),
        ("noise_std: 0.01", "noise_std: -1", r"small.yaml:34: arm 'noise'.*noise_std.*got -1"),
        ("{temporal_depth_1: 1", "{temporal_depth_1: -1", r"student.*temporal_depth_1.*got -1"),
        ("datasets: [simulated]", "datasets: [simulatd]", "did you mean 'simulated'"),
        ("datasets: [simulated]", "datasets: [PEMS07]", r"small.yaml:38: PEMS07 is not in .*Three ways on"),
        ("[simulated]}", "[simulated], settings: {los: mae}}", r"small.yaml:38: unknown field 'los'"),
        (
            "grace_period: 1",
            "grace_period: 99",
            r"small.yaml:31: grace_period must be at most the epochs of a cell.*99",
        ),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_mistake_in_a_late_stage_shows_before_the_first_cell(
    dry, written, instead, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ALTFORMER_DATA", str(tmp_path))
    path = tmp_path / "small.yaml"
    assert written in PLAN
    path.write_text(PLAN.replace(written, instead))
    assert main(["tune", str(path), "--profile", "quick", *dry, "--out", str(tmp_path / "runs")]) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sampler", ["grid", "tpe"])
@pytest.mark.usefixtures("ray_here")
def test_the_whole_plan_then_again_doing_nothing(sampler, plan, tmp_path, capsys):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    out = tmp_path / "runs"
    command = ["tune", str(plan), "--profile", "quick", "--sampler", sampler, "--out", str(out)]
    assert main(command) == 0
    [folder] = out.glob("small-simulated-*")
    found = [json.loads(line) for line in (folder / DECISIONS).read_text().splitlines()]
    assert [entry["stage"] for entry in found] == [
        "quick_validation",
        "fine_tuning",
        "augmentation",
        "ensemble",
        "distillation",
        "postprocessing",
    ]
    assert all(entry["value"] > 0 and entry["winner"] in entry["candidates"] for entry in found)
    records = [json.loads(path.read_text()) for path in out.glob("cells/*/record.json")]
    assert {record["config"]["training"]["loss"] for record in records} == {"mae_unmasked"}
    taught = [record for record in records if record["config"]["training"]["distillation"]]
    assert len(taught) == 1 and taught[0]["status"] == "done"
    entries = [json.loads(line) for line in (out / LEDGER).read_text().splitlines()]
    assert {entry["cell"] for entry in entries if entry["what"] == "cell"} == {
        record["cell_hash"] for record in records if record["status"] == "done"
    }
    assert sum(entry["what"] == "ensemble" for entry in entries) == 1
    report = (folder / "report.md").read_text()
    for part in (
        "not comparable with published",
        "Every choice was made on validation",
        "3 models",
        "kalman",
        "Winner",
    ):
        assert part in report
    assert {path.name for path in folder.glob("*-datasets/table.*")} == {"table.md", "table.tex", "table.csv"}
    assert f"experiments/results/{LEDGER}" in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.suffix in KEPT}
    with pytest.MonkeyPatch.context() as alone:
        alone.delenv("RAY_ADDRESS")
        assert main(command) == 0
    assert "Ray dashboard" not in capsys.readouterr().out, "nothing is left to run"
    assert {path: path.stat().st_mtime_ns for path in before} == before


KEPT = (".json", ".jsonl", ".md", ".csv", ".safetensors")
