from __future__ import annotations

import pytest
import torch

from altformer.model.encoder import EncoderLayer, SpatialEncoder, StepwiseSpatialEncoder, TemporalEncoder
from altformer.model.positions import NoPosition

KINDS = [TemporalEncoder, SpatialEncoder, StepwiseSpatialEncoder]
SPATIAL = KINDS[1:]
SENSOR, STEP = 2, 4


def perturbed(x, where):
    changed = x.clone()
    changed[where] += 1.0
    return changed


@pytest.fixture
def made(tiny):
    """An encoder of a kind and a depth, without dropout unless asked for."""
    return lambda kind, depth, **changes: kind(tiny(**{"dropout": 0.0} | changes), depth, NoPosition())


@pytest.fixture
def x():
    return torch.randn(3, 5, 6, 16)  # b, n, t, d


@pytest.fixture(params=[1, 3])
def depth(request):
    return request.param


def test_the_temporal_encoder_never_mixes_sensors(x, depth, made):
    encoder = made(TemporalEncoder, depth)
    difference = encoder(perturbed(x, (1, SENSOR, STEP, 3))) - encoder(x)
    assert (difference[1, SENSOR].abs().amax(-1) > 0).all()  # every step of that sensor hears of it
    difference[1, SENSOR] = 0
    assert difference.abs().max() == 0


@pytest.mark.parametrize("kind", SPATIAL)
def test_the_spatial_encoder_never_mixes_steps(kind, x, depth, made):
    encoder = made(kind, depth)
    difference = encoder(perturbed(x, (1, SENSOR, STEP, 3))) - encoder(x)
    assert (difference[1, :, STEP].abs().amax(-1) > 0).all()  # every sensor at that step hears of it
    difference[1, :, STEP] = 0
    assert difference.abs().max() == 0


@pytest.mark.parametrize("kind", SPATIAL)
def test_the_spatial_encoder_is_the_temporal_one_with_the_axes_exchanged(kind, x, made):
    temporal, spatial = made(TemporalEncoder, 2), made(kind, 2)
    spatial.load_state_dict(temporal.state_dict())
    torch.testing.assert_close(spatial(x), temporal(x.transpose(1, 2)).transpose(1, 2))


def test_a_layer_is_the_pre_norm_formula(tiny):
    layer, x = EncoderLayer(tiny(dropout=0.0), stochastic_depth=0.0), torch.randn(3, 6, 16)
    after = x + layer.attention(layer.attention_norm(x), NoPosition())
    wide = torch.relu(layer.feed_forward.widen(layer.feed_forward_norm(after)))
    torch.testing.assert_close(layer(x, NoPosition()), after + layer.feed_forward.narrow(wide))


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_an_encoder_is_normalized(kind, x, made):
    encoded = made(kind, 2)(100 * x)
    torch.testing.assert_close(encoded.mean(-1), torch.zeros(x.shape[:-1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded.std(-1, correction=0), torch.ones(x.shape[:-1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop", [{"dropout": 0.5}, {"stochastic_depth_rate": 0.5}], ids=str)
def test_dropout_acts_in_training_only(drop, kind, x, made):
    drops = made(kind, 1, **drop)
    assert not torch.equal(drops(x), drops(x))
    drops.eval()
    assert torch.equal(drops(x), drops(x))


def test_whole_layers_are_left_out_ever_more_often_towards_the_last(made):
    encoder = made(TemporalEncoder, 4, stochastic_depth_rate=0.2)
    assert [layer.depth.p for layer in encoder.layers] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert [layer.depth.p for layer in made(TemporalEncoder, 3).layers] == [0, 0, 0]


def test_stochastic_depth_leaves_a_row_as_it_came_or_adds_the_branch_scaled_up(tiny):
    """Both branches of the layer: each row's is one of the four outcomes, written out."""
    p, rows = 0.5, 200
    torch.manual_seed(0)
    layer, x = EncoderLayer(tiny(dropout=0.0), stochastic_depth=p), torch.randn(rows, 6, 16)
    seen = torch.zeros(rows, 2, 2)
    encoded = layer(x, NoPosition())
    for attends in (0, 1):
        after = x + attends / (1 - p) * layer.attention(layer.attention_norm(x), NoPosition())
        for feeds in (0, 1):
            expected = after + feeds / (1 - p) * layer.feed_forward(layer.feed_forward_norm(after))
            seen[:, attends, feeds] = torch.isclose(encoded, expected, atol=1e-5).flatten(1).all(-1).float()
    assert (seen.sum((1, 2)) == 1).all()
    torch.testing.assert_close(seen.mean(0), torch.full((2, 2), 0.25), atol=0.15, rtol=0)
