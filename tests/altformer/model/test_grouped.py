"""Several models as one forecast, learn and draw as each of them does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn
from torch.func import functional_call

from altformer.baselines.config import GraphWaveNetConfig
from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.grouped import Group, drawing_from, grouped, without_form
from altformer.model.shape import ForecastShape

SHAPE = ForecastShape(num_sensors=5, steps_per_day=24, adjacency=np.eye(5, dtype=np.float32))
WIDTHS = {"embed_dim": 8, "num_heads": 2, "adaptive_dim": 4}
MODELS, SAMPLES = 3, 2


def models_of(config):
    found = []
    for seed in range(MODELS):
        torch.manual_seed(seed)
        found.append(build_model(config, SHAPE))
    return found


def inputs(samples):
    size = (samples, SHAPE.input_len, SHAPE.num_sensors)
    return torch.randn(size), torch.rand(size) > 0.2, torch.randint(24, size[:2]), torch.randint(7, size[:2])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_forecasts_and_gradients_are_those_of_each_model(dropout):
    models = models_of(ModelConfig(dropout=dropout, stochastic_depth_rate=dropout, **WIDTHS))
    given = inputs(MODELS * SAMPLES)
    group = Group(MODELS, [Generator().manual_seed(10 + seed) for seed in range(MODELS)])
    weights = {
        name: torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_()
        for name, _ in models[0].named_parameters()
    }
    forecast = functional_call(grouped(models[0], group), weights, given)
    forecast.square().sum().backward()
    for row, model in enumerate(models):
        torch.manual_seed(10 + row)
        own = slice(row * SAMPLES, (row + 1) * SAMPLES)
        expected = model(*(part[own] for part in given))
        torch.testing.assert_close(forecast[own], expected, rtol=1e-4, atol=1e-5)
        expected.square().sum().backward()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(weights[name].grad[row], weight.grad, rtol=1e-3, atol=1e-4, msg=name)
    assert isinstance(models[0].head.linear, nn.Linear) and type(models[0].head.linear) is nn.Linear


def test_random_numbers_come_from_the_generator_and_move_it_on():
    torch.manual_seed(3)
    expected = torch.rand(2), torch.rand(2)
    generator = Generator().manual_seed(3)
    for numbers in expected:
        torch.manual_seed(7)  # whatever torch's own has in between
        with drawing_from(generator):
            assert torch.equal(torch.rand(2), numbers)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (ModelConfig(**WIDTHS), None),
        (ModelConfig(graph_bias=True, **WIDTHS), "GraphBias"),
        (GraphWaveNetConfig(type="graph_wavenet"), "GraphWaveNet"),
    ],
)
def test_what_has_no_form_is_named(config, found):
    assert without_form(build_model(config, SHAPE)) == found
