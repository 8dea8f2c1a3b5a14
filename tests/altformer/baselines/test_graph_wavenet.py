from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from altformer.baselines.config import GraphWaveNetConfig
from altformer.baselines.graph_wavenet import GatedConvolution, GraphWaveNet, SpatialMix, transition_matrices


def test_transitions_written_out(shape):
    walk, back = transition_matrices(shape.adjacency, 5)
    np.testing.assert_allclose(walk[1], [0, 0.5, 0.4, 0, 0.1], atol=1e-6)
    np.testing.assert_allclose(back[2], [0, 0.8 / 1.8, 1 / 1.8, 0, 0], atol=1e-6)  # column 2: who drives to sensor 2
    assert not walk[3].any() and not back[3].any()  # no roads: nothing flows, nothing is divided by zero
    np.testing.assert_allclose(walk.sum(dim=1)[[0, 1, 2, 4]], 1, atol=1e-6)
    assert transition_matrices(None, 5).shape == (0, 5, 5)


def test_changing_the_road_graph_changes_the_forecast(build, draw, shape):
    inputs = draw()
    other = shape.adjacency.copy()
    other[0, 4] = 1.0
    forecasts = [build("graph_wavenet", replace(shape, adjacency=graph))(*inputs) for graph in (shape.adjacency, other)]
    assert not torch.allclose(*forecasts, atol=1e-5)


def test_without_a_road_graph_the_learned_one_is_left(build, draw, shape):
    model = build("graph_wavenet", replace(shape, adjacency=None))
    reading, *rest = draw()
    changed = reading.clone()
    changed[:, :, 2] += 1
    assert ((model(changed, *rest) - model(reading, *rest)).abs().amax(dim=1) > 1e-6).all()
    assert model._learned_graph().sum(dim=1).allclose(torch.ones(5))


def test_sensors_without_any_way_between_them_do_not_meet(build, draw, shape):
    """With the learned graph cut, only the roads are left: the forecast of one sensor then follows them."""
    roads = np.eye(5, dtype=np.float32)
    roads[0, 1] = 1.0
    model = build("graph_wavenet", replace(shape, adjacency=roads))
    model._learned_graph = lambda: torch.zeros(5, 5)
    reading, *rest = draw()
    changed = reading.clone()
    changed[:, :, 1] += 1
    reached = ((model(changed, *rest) - model(reading, *rest)).abs() > 1e-7).any(dim=1).any(dim=0)
    assert reached.tolist() == [True, True, False, False, False]  # sensor 0 against the road, itself, no other


def test_diffusion_written_out():
    config = GraphWaveNetConfig(residual_dim=2)
    torch.manual_seed(0)
    mix = SpatialMix(config, graphs=2).eval()
    x, layer_input, graphs = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 6, 5), torch.rand(2, 5, 5)
    parts = [x.numpy()]
    for graph in graphs.numpy():
        for walk in (graph, graph @ graph):
            parts.append(np.einsum("bcti,ij->bctj", x.numpy(), walk))
    weight = mix.join.weight.detach().numpy()[:, :, 0, 0]
    joined = np.einsum("oc,bctn->botn", weight, np.concatenate(parts, axis=1))
    joined += mix.join.bias.detach().numpy()[:, None, None]
    expected = (joined + layer_input.numpy()[:, :, 2:]) / np.sqrt(1 + mix.norm.eps)
    np.testing.assert_allclose(mix(x, layer_input, graphs).detach(), expected, atol=1e-5)


@pytest.mark.parametrize(("blocks", "layers"), [(2, 1), (1, 2)])
def test_in_the_smallest_model_the_graphs_reach_the_output(draw, shape, blocks, layers):
    model = GraphWaveNet(GraphWaveNetConfig(num_blocks=blocks, layers_per_block=layers), shape)
    model(*draw()).square().sum().backward()
    assert model.source.grad.any() and model.target.grad.any()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("dilation", [1, 2])
def test_gated_convolution_written_out(dilation):
    torch.manual_seed(0)
    gate = GatedConvolution(GraphWaveNetConfig(residual_dim=2), dilation)
    x = torch.randn(3, 2, 7, 5)
    weight, bias = gate.both.weight.detach()[..., 0], gate.both.bias.detach()
    old, new = x[:, :, :-dilation], x[:, :, dilation:]
    both = torch.einsum("oc,bctn->botn", weight[..., 0], old) + torch.einsum("oc,bctn->botn", weight[..., 1], new)
    both = both + bias[:, None, None]
    expected = torch.tanh(both[:, :2]) * torch.sigmoid(both[:, 2:])
    torch.testing.assert_close(gate(x), expected, rtol=1e-5, atol=1e-6)


def test_the_receptive_field_is_thirteen_steps(build, draw, shape):
    model = build("graph_wavenet", replace(shape, input_len=24))
    reading, *rest = draw(replace(shape, input_len=24))
    reading.requires_grad_()
    model(reading, *rest).square().sum().backward()
    assert reading.grad.any(dim=2).any(dim=0).tolist() == 11 * [False] + 13 * [True]


def test_a_short_input_is_padded_with_zeros_on_the_left(build, draw, shape):
    reading, observed, slots, days = draw()
    short = build("graph_wavenet")
    longer = build("graph_wavenet", replace(shape, input_len=13))
    longer.load_state_dict(short.state_dict())
    front = [torch.zeros_like(part[:, :1]) for part in (reading, observed, slots, days)]
    padded = [torch.cat(pair, dim=1) for pair in zip(front, (reading, observed, slots, days), strict=True)]
    assert torch.equal(longer(*padded), short(reading, observed, slots, days))
