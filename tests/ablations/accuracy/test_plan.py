"""What a campaign's YAML may say, and where a mistake in it stands."""

from __future__ import annotations

import re

import pytest

from ablations.accuracy.plan import PACKAGE, AccuracyPlan, Steps, load_plan, meets
from ablations.accuracy.steps import AccuracyCampaign
from altformer.errors import UserError
from experiments.cell import Machine
from experiments.cli import main
from tests.ablations.accuracy.conftest import write_plan


def campaign(path, out):
    return AccuracyCampaign(load_plan(str(path)), Machine("cpu", 1), out)


def test_the_steps_of_a_plan_with_their_cells(toy, tmp_path):
    first, rate, size, final, ablate = campaign(toy, tmp_path).steps()
    assert [(task.name, len(task.cells), task.test) for task in first.tasks] == [("simulated", 2, True)]
    assert [task.name for task in rate.tasks] == ["start", "tiny", "fast"]
    assert not any(task.test for task in (*rate.tasks, *size.tasks)) and final.tasks[0].test
    assert [task.config.training.epochs for task in (*rate.tasks[:1], *size.tasks[:1])] == [1, 2]
    assert {at.seed for task in rate.tasks for at in task.cells} == {1000}, "no final cell was itself selected"
    assert [at.seed for at in final.tasks[0].cells] == [0, 1, 2]
    assert ablate.tasks[0].config.training.ema_decay == 0 and final.tasks[0].config.training.ema_decay == 0.5
    assert [step.provisional for step in (first, rate, size, final, ablate)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  tune:", "  tuen:", "toy.yaml:13: unknown key 'tuen'; did you mean 'tune'?"),
        ("seeds: 3", "seeds: 0", "toy.yaml:24: steps.final.seeds: must be greater than or equal to 1, got 0"),
        ("tiny: {lr: 1.0e-9}", "tiny: {lt: 1}", "toy.yaml:18: tiny: arm lt: unknown field 'lt'"),
        ("tiny: {lr", "start: {lr", "'start' is in every round by itself"),
        ("lr: 3.0e-3}", "lr: -1}", "toy.yaml:8: training.lr: must be greater than 0, got -1"),
        ("{ema_decay: 0.5}", "{ema_decay: 2}", "toy.yaml:24: training.ema_decay: must be less than 1, got 2"),
        ("seeds: 2\n    arms", "seeds: 4\n    arms", "ablate has 4 seeds, more than the 3 of final"),
        ("    dataset: simulated\n    seeds", "    dataset: PEMS08\n    seeds", "final configuration of PEMS08"),
        ("max_parameters: 20000", "max_parameters: 10699", "has 10,700 parameters; max_parameters is 10,699"),
        ("narrow: {mlp_ratio: 1}", "narrow: {num_heads: 3}", "toy.yaml:23: narrow: "),
        ("base: simulated", "base: simulatd", "toy.yaml:3: "),
        ('"< 1000"', '"about 3"', "goals.simulated.mae"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path, capsys, old, new, said):
    path = write_plan(tmp_path, (old, new))
    assert main(["campaign", str(path), "--list", "--out", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_campaign_names_the_shipped_ones():
    with pytest.raises(UserError, match=r"unknown campaign 'gpus'; did you mean 'gpu'\? \(valid: cpu-hour, gpu\)"):
        load_plan("gpus")


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_shipped_campaigns_are_valid_on_the_real_data(file, metr_la_dir, pems08_dir, tmp_path):
    steps = campaign(file, tmp_path).steps()
    assert steps and all(task.params <= 1_500_000 for step in steps for task in step.tasks)
    assert load_plan(file.stem).called == load_plan(file.stem).name == file.stem


def test_the_campaign_of_the_documents_is_one(tmp_path):
    text = (PACKAGE.parents[1] / "docs" / "campaign.md").read_text()
    [block] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)
    plan = load_plan(str(tmp_path / "mine.yaml"))
    described = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \|", text, re.MULTILINE))))
    assert described == {*AccuracyPlan.model_fields, *Steps.model_fields}, "every key has its row"
    assert plan.steps.final.datasets["PEMS08"] == {"weight_decay": 1e-3}


@pytest.mark.parametrize(
    ("value", "bound", "met"), [(2.93, "<= 2.93", True), (2.93, "< 2.93", False), (2.9, "< 2.93", True)]
)
def test_a_bound_is_kept(value, bound, met):
    assert meets(value, bound) == met
