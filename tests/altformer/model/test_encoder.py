from __future__ import annotations

import pytest
import torch

from altformer.model.encoder import EncoderLayer, SpatialEncoder, TemporalEncoder

SENSOR, STEP = 2, 4


def perturbed(x, where):
    changed = x.clone()
    changed[where] += 1.0
    return changed


@pytest.fixture
def x():
    return torch.randn(3, 5, 6, 16)  # b, n, t, d


@pytest.fixture(params=[1, 3])
def depth(request):
    return request.param


def test_the_temporal_encoder_never_mixes_sensors(x, depth):
    encoder = TemporalEncoder(depth, 16, 4, 2, dropout=0.0)
    difference = encoder(perturbed(x, (1, SENSOR, STEP, 3))) - encoder(x)
    assert (difference[1, SENSOR].abs().amax(-1) > 0).all()  # every step of that sensor hears of it
    difference[1, SENSOR] = 0
    assert difference.abs().max() == 0


def test_the_spatial_encoder_never_mixes_steps(x, depth):
    encoder = SpatialEncoder(depth, 16, 4, 2, dropout=0.0)
    difference = encoder(perturbed(x, (1, SENSOR, STEP, 3))) - encoder(x)
    assert (difference[1, :, STEP].abs().amax(-1) > 0).all()  # every sensor at that step hears of it
    difference[1, :, STEP] = 0
    assert difference.abs().max() == 0


def test_the_spatial_encoder_is_the_temporal_one_with_the_axes_exchanged(x):
    temporal, spatial = TemporalEncoder(2, 16, 4, 2, dropout=0.0), SpatialEncoder(2, 16, 4, 2, dropout=0.0)
    spatial.load_state_dict(temporal.state_dict())
    torch.testing.assert_close(spatial(x), temporal(x.transpose(1, 2)).transpose(1, 2))


def test_a_layer_is_the_pre_norm_formula():
    layer, x = EncoderLayer(16, 4, 2, dropout=0.0), torch.randn(3, 6, 16)
    after = x + layer.attention(layer.attention_norm(x))
    wide = torch.relu(layer.feed_forward.widen(layer.feed_forward_norm(after)))
    torch.testing.assert_close(layer(x), after + layer.feed_forward.narrow(wide))


@pytest.mark.parametrize("encoder", [TemporalEncoder, SpatialEncoder])
def test_what_leaves_an_encoder_is_normalized(encoder, x):
    encoded = encoder(2, 16, 4, 2, dropout=0.0)(100 * x)
    torch.testing.assert_close(encoded.mean(-1), torch.zeros(x.shape[:-1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded.std(-1, correction=0), torch.ones(x.shape[:-1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("encoder", [TemporalEncoder, SpatialEncoder])
def test_dropout_acts_in_training_only(encoder, x):
    drops = encoder(1, 16, 4, 2, dropout=0.5)
    assert not torch.equal(drops(x), drops(x))
    drops.eval()
    assert torch.equal(drops(x), drops(x))
