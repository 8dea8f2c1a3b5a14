from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from altformer.training.schedule import Constant, Cosine, MultiStep, OneCycle

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


@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
@pytest.mark.filterwarnings("ignore")
def test_rate_at_every_step_is_torchs(ours, theirs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = theirs(optimizer)
    for step in range(STEPS):
        assert ours.rate(step, STEPS, PER_EPOCH, LR) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", [Constant(), MultiStep(), Cosine(), OneCycle(), Cosine(warmup_epochs=5)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs_have_a_finite_positive_rate(schedule, steps):
    assert all(0 < schedule.rate(step, steps, steps, 1e-3) < 1 for step in range(steps))
