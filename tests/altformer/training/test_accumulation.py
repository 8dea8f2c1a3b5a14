"""A step over several micro-batches is the step over one large batch."""

from __future__ import annotations

import pytest
import torch

from altformer import train as loop
from altformer.data.windows import Windows
from altformer.train import train
from altformer.training.batches import epoch_steps
from altformer.training.context import BareContext


@pytest.mark.parametrize("loss", ["masked_mae", "huber", "mae_unmasked"])
@pytest.mark.parametrize(("batch_size", "accumulated"), [(8, 2), (5, 4)])
def test_accumulating_equals_the_large_batch(patchy, trained_with, tmp_path, loss, batch_size, accumulated):
    """Twenty steps whose micro-batches differ in how many targets are observed: the same curve."""
    options = {"epochs": 4, "loss": loss}
    large = train(
        trained_with(batch_size=batch_size * accumulated, **options), patchy, BareContext(), tmp_path / "large"
    )
    small = train(
        trained_with(batch_size=batch_size, gradient_accumulation_steps=accumulated, **options),
        patchy,
        BareContext(),
        tmp_path / "small",
    )
    for one, other in zip(large.curve, small.curve, strict=True):
        for name in ("train_loss", "val_mae", "val_rmse", "val_mae_unmasked", "lr"):
            assert other[name] == pytest.approx(one[name], rel=1e-5), name


def test_the_gradient_of_a_step_is_that_of_the_large_batch(patchy, trained_with, tmp_path, monkeypatch):
    """To 1e-5 of its norm at the first step, before Adam's division makes much of little."""
    gradients = []
    clip = torch.nn.utils.clip_grad_norm_

    def watched(parameters, *args):
        parameters = list(parameters)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
        return clip(parameters, *args)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    for batch_size, accumulated in ((24, 1), (6, 4), (10, 3)):  # with 10 the last of three micro-batches is smaller
        monkeypatch.setattr(loop, "epoch_steps", lambda *args: (epoch_steps(*args)[0][:24],))
        options = {"batch_size": batch_size, "gradient_accumulation_steps": accumulated, "steps_per_epoch": 1}
        train(trained_with(epochs=1, **options), patchy, BareContext(), tmp_path / str(batch_size))
    assert len(gradients) == 3
    for gradient in gradients[1:]:
        assert float((gradient - gradients[0]).norm() / gradients[0].norm()) < 1e-5


def test_steps_and_schedules_count_optimizer_steps(traffic, trained_with, tmp_path):
    """264 training windows in micro-batches of 20: three to a step make five steps, the last of 24 windows."""
    config = trained_with(
        batch_size=20, gradient_accumulation_steps=3, steps_per_epoch=None, epochs=1, scheduler="OneCycleLR"
    )
    steps = epoch_steps(config.training, Windows.of(traffic, 12, 12), 0)
    assert [len(step) for step in steps] == [60, 60, 60, 60, 24]
    assert len(set(torch.cat(steps).tolist())) == 264

    class Counter(BareContext):
        seen = ()

        def progress(self, epoch, step, steps):
            self.seen += ((epoch, step, steps),)

    context = Counter()
    result = train(config, traffic, context, tmp_path)
    assert context.seen == tuple((1, step, 5) for step in range(1, 6))
    assert result.curve[0]["lr"] == pytest.approx(config.training.scheduler.rate(4, 5, 5, 0.0))
