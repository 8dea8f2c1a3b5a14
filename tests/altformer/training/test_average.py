"""The average of the weights: its formula, what it shares with the trained model, and what is scored and kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from altformer.train import train
from altformer.training.average import WithAverage
from altformer.training.config import TrainingConfig
from altformer.training.context import BareContext
from altformer.training.optimizer import make_optimizer


def with_average(model, decay=0.9):
    return WithAverage(make_optimizer(TrainingConfig(lr=0.1), model), model, decay)


def trained(optimizer, model, steps, first=0):
    """Weights after each of the steps."""
    found = []
    for step in range(first, first + steps):
        optimizer.set_rate(step, 100)
        optimizer.zero_grad()
        optimizer.backward(model(torch.ones(2, 3)).square().sum())
        optimizer.step()
        found.append(model.weight.detach().clone())
    return found


def test_the_average_is_that_of_its_formula():
    model = nn.Linear(3, 2)
    expected = model.weight.detach().clone()
    optimizer = with_average(model, decay=0.3)
    for step, weight in enumerate(trained(optimizer, model, 6)):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(optimizer.average.weight, expected)
    assert not torch.equal(optimizer.average.weight, model.weight)
    assert not any(parameter.requires_grad for parameter in optimizer.average.parameters())


def test_buffers_are_those_of_the_trained_model():
    model = nn.BatchNorm1d(3)
    average = with_average(model).average
    model(torch.randn(5, 3))
    assert torch.equal(average.running_mean, model.running_mean) and average.running_mean.any()
    assert average.weight is not model.weight


def test_a_checkpoint_brings_back_average_and_trained_weights():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = with_average(model)
    trained(optimizer, model, 3)
    average = {name: tensor.clone() for name, tensor in optimizer.average.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    again = nn.Linear(3, 2)
    other = with_average(again)
    other.average.load_state_dict(average)
    other.load_state_dict(state)
    trained(optimizer, model, 2, first=3)
    trained(other, again, 2, first=3)
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(other.average.weight, optimizer.average.weight)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_what_is_scored_is_the_average(tiny, traffic, tmp_path, decay):
    """The training itself is the same: only validation and test differ."""
    plain = train(tiny, traffic, BareContext(), tmp_path / "plain")
    training = tiny.training.model_copy(update={"ema_decay": decay})
    averaged = train(tiny.model_copy(update={"training": training}), traffic, BareContext(), tmp_path / "averaged")
    losses = [[epoch["train_loss"] for epoch in result.curve] for result in (plain, averaged)]
    assert losses[0] == losses[1]
    assert (plain.val == averaged.val) == (plain.test == averaged.test) == (decay == 0.0)
