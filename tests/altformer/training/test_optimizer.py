from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from altformer.training.config import TrainingConfig
from altformer.training.optimizer import GradientDescent, NoOptimizer, inner_matrices, make_optimizer, parameter_groups

RATES = {"encoder": 3e-4, "decoder": 5e-4, "head": 1e-3}
EPOCHS, PER_EPOCH = 6, 5
STEPS = EPOCHS * PER_EPOCH
INNER = ("stages.0.weight", "stages.2.weight", "decoder.weight")


class Parts(nn.Module):
    """As an outline of the model: what is trained is told apart by the outermost name alone."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Sequential(nn.Linear(1, 1, bias=False)))


def grouped(**options):
    return TrainingConfig.model_validate(
        {"optimizer": {"type": "AdamW", "lr_groups": RATES}, "epochs": EPOCHS, "lr": 0.5, **options}
    )


SCHEDULES = {
    "constant": ({"type": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    "multistep": (
        {"type": "MultiStepLR", "milestones": [2, 4], "gamma": 0.1},
        lambda o: lr_scheduler.MultiStepLR(o, [2 * PER_EPOCH, 4 * PER_EPOCH], 0.1),
    ),
    "cosine": (
        {"type": "CosineAnnealingLR", "eta_min": 1e-5},
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 1e-5),
    ),
    "warm restarts": (
        {"type": "CosineAnnealingWarmRestarts", "T_0": 1, "T_mult": 2, "eta_min": 1e-5},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, PER_EPOCH, 2, 1e-5),
    ),
}


@pytest.mark.parametrize(("schedule", "theirs"), SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.filterwarnings("ignore")
def test_each_groups_rate_at_every_step_is_torchs(schedule, theirs):
    model = Parts("embedding", "stages", "decoders", "head")
    ours = GradientDescent(grouped(scheduler=schedule), model)
    reference = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in RATES.values()])
    scheduler = theirs(reference)
    for step in range(STEPS):
        main = ours.set_rate(step, PER_EPOCH)
        got = [group["lr"] for group in ours.state_dict()["parts"][0]["param_groups"]]
        assert got == pytest.approx([group["lr"] for group in reference.param_groups], rel=1e-6), step
        assert main == got[0], "the encoder's rate is the one that is logged"
        reference.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("embedding", "stage_1", "decoder", "stage_2", "head"), {3e-4: 3, 5e-4: 1, 1e-3: 1}),
        (("embeddings", "decoders", "heads"), {3e-4: 1, 5e-4: 1, 1e-3: 1}),
        (("stages", "my_decoder", "forehead"), {3e-4: 3}),  # no outermost name begins with decoder or head
        (("head",), {1e-3: 1}),
    ],
)
def test_groups_by_outermost_module_and_absent_where_empty(names, expected):
    groups = parameter_groups(grouped(), Parts(*names))
    assert {group["lr"]: len(group["params"]) for group in groups} == expected


def test_every_weight_is_in_one_group():
    model = Parts("embedding", "decoder", "head")
    groups = parameter_groups(grouped(), model)
    assert {id(weight) for group in groups for weight in group["params"]} == {id(w) for w in model.parameters()}
    assert sum(len(group["params"]) for group in groups) == 3


def test_without_groups_there_is_one_rate():
    groups = parameter_groups(TrainingConfig(lr=0.25), Parts("embedding", "head"))
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.25, 2)]


class Model(nn.Module):
    """Every kind of weight a model has."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.table = nn.Parameter(torch.randn(5, 4))
        self.stages = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 4, bias=False))
        self.decoder = nn.Linear(4, 4)


def test_muon_moves_the_inner_matrices_and_adamw_the_rest():
    model = Model()
    inner = [model.stages[0].weight, model.stages[2].weight, model.decoder.weight]
    assert inner_matrices(model) == set(inner)
    ours = GradientDescent(TrainingConfig(optimizer={"type": "Muon"}, lr=0.01, weight_decay=0.1), model)
    twin = copy.deepcopy(model)
    others = [weight for name, weight in twin.named_parameters() if name not in INNER]
    muon = torch.optim.Muon(
        [dict(twin.named_parameters())[name] for name in INNER],
        lr=0.01,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0.1)
    for step in range(3):
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            theirs.grad = torch.full_like(theirs, 0.01) + 0.01 * theirs.detach()
            mine.grad = theirs.grad.clone()
        ours.set_rate(step, PER_EPOCH)
        ours.step()
        muon.step()
        adamw.step()
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_muon_keeps_the_rate_of_each_group():
    ours = GradientDescent(grouped(optimizer={"type": "Muon", "lr_groups": RATES}), Model())
    assert ours.set_rate(0, PER_EPOCH) == RATES["encoder"]
    adamw, muon = ([group["lr"] for group in part["param_groups"]] for part in ours.state_dict()["parts"])
    assert adamw == [3e-4, 5e-4, 1e-3]
    assert muon == [3e-4, 5e-4]


@pytest.mark.parametrize("model", [nn.LayerNorm(3), nn.Linear(3, 3)], ids=["no matrix", "a matrix alone"])
def test_muon_on_models_of_any_make(model):
    ours = GradientDescent(TrainingConfig(optimizer={"type": "Muon"}), nn.Sequential(model))
    before = [weight.clone() for weight in model.parameters()]
    ours.set_rate(0, PER_EPOCH)
    ours.backward(sum(weight.sum() for weight in model.parameters()))
    ours.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_groups_and_one_cycle_exclude_each_other():
    with pytest.raises(ValidationError, match=r"lr_groups cannot be combined .*OneCycleLR.*0\.0003.*max_lr 0\.001"):
        grouped(scheduler="OneCycleLR")


def test_a_model_without_weights_has_no_optimizer():
    class Copy(nn.Module):
        pass

    frozen = nn.Linear(1, 1).requires_grad_(False)
    assert isinstance(make_optimizer(TrainingConfig(), Copy()), NoOptimizer)
    assert isinstance(make_optimizer(TrainingConfig(), frozen), NoOptimizer)
    assert isinstance(make_optimizer(TrainingConfig(), nn.Linear(1, 1)), GradientDescent)
