"""Distillation: the loss by hand, and what becomes of the teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.model import build as models
from altformer.train import train
from altformer.training.context import BareContext
from altformer.training.objective import forecast_of, make_objective, weighted

CELL = "0123456789abcdef"


class Teacher(nn.Module):
    """Forecasts the last reading, shifted by what it may learn; notes what it sees."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.5))
        self.dropout = nn.Dropout(0.5)
        self.seen = []

    def forward(self, reading, observed, time_of_day, day_of_week):
        self.seen.append((self.training, torch.is_grad_enabled(), reading.clone()))
        return self.dropout(reading[:, -1:] + self.shift).expand(-1, 12, -1)


@pytest.fixture(scope="module")
def windows(traffic):
    return Windows.of(traffic, 12, 12)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_loss_by_hand(windows, trained_with, weight):
    training = trained_with(distillation={"teacher": CELL, "weight": weight}).training
    batch, teacher = windows.batch(windows.origins["train"][:20]), Teacher()
    objective = make_objective(training, teacher, windows)
    forecast = torch.full_like(batch.target, 50.0, requires_grad=True)
    loss = weighted(objective.weights, objective.sums(forecast, batch), objective.counts(batch))
    taught = forecast_of(teacher.eval(), batch, windows.scaler, bf16=False)
    against_targets = (50 - batch.target).abs()[batch.target_observed].mean()
    expected = (1 - weight) * against_targets + weight * (50 - taught).abs().mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    loss.backward()
    assert teacher.shift.grad is None and forecast.grad is not None


def test_the_teacher_is_in_evaluation_learns_nothing_and_sees_the_students_inputs(
    traffic, trained_with, tmp_path, monkeypatch
):
    inputs = []

    def build(config, shape):
        student = build_model(config, shape)
        student.register_forward_pre_hook(lambda model, args: inputs.append((model.training, args[0].clone())))
        return student

    build_model = models.build_model
    monkeypatch.setattr(models, "build_model", build)
    config = trained_with(distillation={"teacher": CELL}, augmentation={"noise_std": 0.1, "mask_ratio": 0.2}, epochs=1)
    teacher = Teacher().train()
    result = train(config, traffic, BareContext(), tmp_path, teacher)
    assert result.status == "done" and float(teacher.shift.detach()) == 0.5
    assert len(teacher.seen) == 5 and all(seen[:2] == (False, False) for seen in teacher.seen)
    trained_on = [reading for training, reading in inputs if training]
    assert all(map(torch.equal, (reading for _, _, reading in teacher.seen), trained_on))


def test_with_all_weight_on_the_teacher_the_targets_do_not_matter(traffic, trained_with, tmp_path):
    def learned(loss):
        config = trained_with(distillation={"teacher": CELL, "weight": 1.0}, epochs=1, loss=loss)
        return train(config, traffic, BareContext(), tmp_path / loss, Teacher()).curve[0]["train_loss"]

    assert learned("masked_mae") == learned("huber")


def test_distillation_accumulated_equals_the_large_batch(patchy, trained_with, tmp_path):
    options = {"distillation": {"teacher": CELL, "weight": 0.3}, "epochs": 2}
    large = train(trained_with(batch_size=16, **options), patchy, BareContext(), tmp_path / "large", Teacher())
    small = train(
        trained_with(batch_size=8, gradient_accumulation_steps=2, **options),
        patchy,
        BareContext(),
        tmp_path / "small",
        Teacher(),
    )
    for one, other in zip(large.curve, small.curve, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)


def test_a_teacher_that_is_not_given_is_missed(traffic, trained_with, tmp_path):
    with pytest.raises(UserError, match=f"distillation needs a teacher.*{CELL}"):
        train(trained_with(distillation={"teacher": CELL}), traffic, BareContext(), tmp_path)
