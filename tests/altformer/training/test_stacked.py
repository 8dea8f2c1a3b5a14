"""Weights side by side are clipped, moved and kept as each model's own."""

from __future__ import annotations

import torch
from torch import nn

from altformer.training.config import TrainingConfig
from altformer.training.optimizer import GradientDescent
from altformer.training.stacked import Stacked, StackedDescent


class Model(nn.Module):
    """Weights in each part, the head's first."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.head, self.decoders, self.embed = nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(4, 1, bias=False)


def separate(models, training, scales, steps):
    """Models moved by gradients of their own; their optimizers."""
    optimizers = [GradientDescent(training, model) for model in models]
    for model, optimizer, scale in zip(models, optimizers, scales, strict=True):
        for _ in range(steps):
            for weight in model.parameters():
                weight.grad = scale * torch.ones_like(weight)
            optimizer.step()
    return optimizers


def test_what_is_split_is_what_was_joined():
    models = [Model(seed) for seed in range(3)]
    stacked = Stacked(models)
    assert {name: tuple(rows.shape) for name, rows in stacked.named_parameters()} == {
        "encoder": (3, 4),
        "decoder": (3, 6),
        "head": (3, 8),
    }
    for name, weights in stacked.by_name().items():
        for model, weight in zip(models, weights, strict=True):
            assert torch.equal(model.get_parameter(name), weight)
    others = [Model(seed) for seed in range(3, 6)]
    stacked.take_up(others)
    stacked.hand_back(models)
    for model, other in zip(models, others, strict=True):
        for name, weight in other.named_parameters():
            assert torch.equal(model.get_parameter(name), weight)


def test_each_is_clipped_and_moved_by_itself_and_can_go_on_alone():
    groups = {"encoder": 0.1, "decoder": 0.2, "head": 0.3}
    training = TrainingConfig(clip_norm=1.0, weight_decay=0.1, optimizer={"lr_groups": groups})
    scales = (0.01, 50.0)  # below the norm that is clipped, and above
    models, expected = ([Model(seed) for seed in range(2)] for _ in range(2))
    separate(expected, training, scales, steps=4)
    optimizers = separate(models, training, scales, steps=1)
    stacked = Stacked(models)
    descent = StackedDescent(training, stacked, models, optimizers)
    for _ in range(2):
        for rows in stacked.parameters():
            rows.grad = torch.tensor(scales)[:, None] * torch.ones_like(rows)
        descent.step()
    stacked.hand_back(models)
    descent.hand_back()
    for model, optimizer, scale in zip(models, optimizers, scales, strict=True):
        for weight in model.parameters():
            weight.grad = scale * torch.ones_like(weight)
        optimizer.step()
    for model, other in zip(models, expected, strict=True):
        for name, weight in other.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), weight, msg=name)
