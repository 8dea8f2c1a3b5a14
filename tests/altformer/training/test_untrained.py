"""Models that learn nothing by gradient: fitted in closed form, or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from altformer.data.windows import Windows
from altformer.evaluate import model_forecaster, score
from altformer.model import build as models
from altformer.train import train
from altformer.training.context import BareContext


class Mean(nn.Module):
    """Forecasts one number, the mean of the training targets, once it is fitted."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.fits = 0

    def fit(self, windows):
        self.fits += 1
        batch = windows.batch(windows.origins["train"])
        self.mean.copy_(windows.scaler.scale(batch.target[batch.target_observed].mean()))

    def forward(self, reading, observed, time_of_day, day_of_week):
        return self.mean.expand(len(reading), 12, reading.shape[2])


@pytest.fixture
def mean(monkeypatch):
    model = Mean()
    monkeypatch.setattr(models, "build_model", lambda config, shape: model)
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_without_weights_has_one_epoch_and_honest_scores(traffic, trained_with, tmp_path, mean, precision):
    result = train(trained_with(epochs=50, steps_per_epoch=None, precision=precision), traffic, BareContext(), tmp_path)
    assert (result.status, result.epochs, result.best_epoch, result.params) == ("done", 1, 1, 0)
    windows = Windows.of(traffic, 12, 12)
    assert result.test == score(model_forecaster(mean, windows), windows, "test")
    assert result.val["all"]["mae"] == result.curve[0]["val_mae"]
    expected = score(model_forecaster(mean, windows), windows, "train")["all"]["mae"]
    assert result.curve[0]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert result.curve[0]["lr"] == 0


def test_what_was_fitted_is_in_the_checkpoint(traffic, trained_with, tmp_path, mean):
    train(trained_with(), traffic, BareContext(), tmp_path)
    assert mean.fits == 1
    assert torch.equal(load_file(tmp_path / "checkpoints/epoch-0001/model.safetensors")["mean"], mean.mean)


def test_a_finished_run_is_not_run_again(traffic, trained_with, tmp_path, mean):
    first = train(trained_with(), traffic, BareContext(), tmp_path)
    again = train(trained_with(), traffic, BareContext(), tmp_path)
    assert again.curve == first.curve and again.test == first.test


def test_a_model_that_is_fitted_may_also_be_trained(traffic, trained_with, tmp_path, monkeypatch):
    class Drift(Mean):
        def __init__(self):
            super().__init__()
            self.drift = nn.Parameter(torch.zeros(12, 1))

        def forward(self, *inputs):
            return super().forward(*inputs) + self.drift

    monkeypatch.setattr(models, "build_model", lambda config, shape: Drift())
    result = train(trained_with(epochs=2), traffic, BareContext(), tmp_path)
    assert result.epochs == 2 and result.params == 12
