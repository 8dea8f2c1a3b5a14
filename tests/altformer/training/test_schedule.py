from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from altformer.training.schedule import Constant, Cosine, MultiStep, OneCycle, WarmRestarts

LR, EPOCHS, PER_EPOCH = 0.5, 10, 7
STEPS = EPOCHS * PER_EPOCH

TORCH = {
    "constant": (Constant(), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    "multistep": (
        MultiStep(milestones=(2, 5), gamma=0.1),
        lambda o: lr_scheduler.MultiStepLR(o, [2 * PER_EPOCH, 5 * PER_EPOCH], 0.1),
    ),
    "cosine": (Cosine(eta_min=0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01)),
    "one cycle": (
        OneCycle(max_lr=0.3, pct_start=0.3),
        lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=STEPS, pct_start=0.3),
    ),
    "warm-up": (Constant(warmup_epochs=2), lambda o: lr_scheduler.LambdaLR(o, lambda s: min(1, (s + 1) / 14))),
    "cosine after warm-up": (
        Cosine(eta_min=0.01, warmup_epochs=1),
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LambdaLR(o, lambda s: (s + 1) / PER_EPOCH),
                lr_scheduler.CosineAnnealingLR(o, STEPS - PER_EPOCH, 0.01),
            ],
            [PER_EPOCH],
        ),
    ),
}


RESTARTS = [(1, 1), (2, 2), (1, 3), (3, 1), (20, 2)]


@pytest.mark.parametrize(("first", "factor"), RESTARTS)
@pytest.mark.filterwarnings("ignore")
def test_warm_restarts_are_torchs_stepped_in_fractions_of_an_epoch(first, factor):
    ours = WarmRestarts(T_0=first, T_mult=factor, eta_min=0.01)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, factor, 0.01)
    restarts = 0
    for step in range(STEPS):
        theirs.step(step / PER_EPOCH)
        expected = optimizer.param_groups[0]["lr"]
        assert ours.rate(step, STEPS, PER_EPOCH, LR) == pytest.approx(expected, rel=1e-6), step
        restarts += expected == LR
    assert restarts == {(1, 1): 10, (2, 2): 3, (1, 3): 3, (3, 1): 4, (20, 2): 1}[first, factor]


@pytest.mark.parametrize("warmup", [1, 1.5])
def test_warm_restarts_begin_after_the_warm_up(warmup):
    ours, bare = WarmRestarts(T_0=2, warmup_epochs=warmup), WarmRestarts(T_0=2)
    length = warmup * 8
    for step in range(80):
        rate = ours.rate(step, 80, 8, LR)
        if step < length:
            assert rate == pytest.approx(LR * (step + 1) / length), step
        else:
            assert rate == bare.rate(step - int(length), 80, 8, LR), step


@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
@pytest.mark.filterwarnings("ignore")
def test_rate_at_every_step_is_torchs(ours, theirs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = theirs(optimizer)
    for step in range(STEPS):
        assert ours.rate(step, STEPS, PER_EPOCH, LR) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    "schedule", [Constant(), MultiStep(), Cosine(), OneCycle(), Cosine(warmup_epochs=5), WarmRestarts()]
)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs_have_a_finite_positive_rate(schedule, steps):
    assert all(0 < schedule.rate(step, steps, steps, 1e-3) < 1 for step in range(steps))
