from __future__ import annotations

import pytest
import torch

from altformer.model.fusion import FUSIONS

KINDS = sorted(FUSIONS)
WAYS = [
    {"fusion_type": "gated"},
    {"fusion_type": "concat"},
    {"fusion_type": "cross_attn", "fusion_heads": 2},
    {"fusion_type": "gated_residual", "gate_activation": "sigmoid"},
    {"fusion_type": "gated_residual", "gate_activation": "tanh"},
    {"fusion_type": "adaptive", "learnable_weights": True},
    {"fusion_type": "adaptive", "learnable_weights": False},
]


@pytest.fixture
def parts():
    return torch.randn(2, 5, 6, 16, requires_grad=True), torch.randn(2, 5, 6, 16, requires_grad=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fusion_reads_both_of_its_inputs(kind, parts, tiny):
    fused = FUSIONS[kind](tiny(fusion_type=kind))(*parts)
    assert fused.shape == parts[0].shape
    (fused * torch.randn_like(fused)).sum().backward()
    for part in parts:
        assert (part.grad.abs().amax(-1) > 0).all()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_fusion_is_its_written_out_formula(way, parts, build):
    """In place, as part of a model, so that a configuration's word reaches it."""
    fusion, (temporal, spatial) = build(**way).stages[1].fusion, parts
    values = dict(fusion.named_parameters()) | dict(fusion.named_buffers())
    joined = torch.cat(parts, -1)

    def linear(name, x):
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def attended():
        key, value = linear("attention.key_value", temporal).chunk(2, -1)
        query, read = linear("attention.query", spatial), []
        for own in (slice(0, 8), slice(8, 16)):  # two heads
            weights = torch.softmax(query[..., own] @ key[..., own].transpose(-1, -2) / 8**0.5, -1)
            read.append(weights @ value[..., own])
        return linear("attention.out", torch.cat(read, -1))

    def gated_residual():
        z = linear("gate", joined)
        gate = 1 / (1 + (-z).exp()) if way["gate_activation"] == "sigmoid" else 1 - 2 / (1 + (2 * z).exp())
        return spatial + gate * linear("value", temporal)

    def weighted():
        share = torch.sigmoid(values["balance"]) if way["learnable_weights"] else 0.5
        return share * temporal + (1 - share) * spatial

    def gated():
        gate = torch.sigmoid(linear("gate", joined))
        return gate * temporal + (1 - gate) * spatial

    expected = {
        "gated": gated,
        "concat": lambda: linear("project", joined),
        "cross_attn": lambda: spatial + attended(),
        "gated_residual": gated_residual,
        "adaptive": weighted,
    }[way["fusion_type"]]()
    torch.testing.assert_close(fusion(temporal, spatial), expected, atol=1e-5, rtol=1e-5)


def test_adaptive_weights_start_at_the_mean_and_are_learned_only_when_learnable(parts, tiny):
    for learns in (True, False):
        fusion = FUSIONS["adaptive"](tiny(fusion_type="adaptive", learnable_weights=learns))
        torch.testing.assert_close(fusion(*parts), sum(parts) / 2)
        assert [p.shape for p in fusion.parameters()] == [(16,)] * learns
        assert list(fusion.state_dict()) == ["balance"] * learns


def test_a_tanh_gate_can_take_away_and_a_sigmoid_gate_cannot(parts, tiny):
    for activation, low in (("sigmoid", 0.0), ("tanh", -1.0)):
        fusion = FUSIONS["gated_residual"](tiny(fusion_type="gated_residual", gate_activation=activation))
        with torch.no_grad():
            fusion.gate.weight.zero_()
            fusion.gate.bias.fill_(-50.0)
        temporal, spatial = parts
        torch.testing.assert_close(fusion(temporal, spatial), spatial + low * fusion.value(temporal))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fusion_never_mixes_sensors(kind, parts, tiny):
    fusion = FUSIONS[kind](tiny(fusion_type=kind)).eval()
    temporal, spatial = (part.detach() for part in parts)
    before = fusion(temporal, spatial)
    other = torch.tensor([0, 1, 3, 4])
    changed_temporal, changed_spatial = temporal.clone(), spatial.clone()
    changed_temporal[:, 2] += 1
    changed_spatial[:, 2] += 1
    assert torch.equal(fusion(changed_temporal, changed_spatial)[:, other], before[:, other])


def test_the_gate_weighs_the_two_by_the_formula(parts, tiny):
    fusion, (temporal, spatial) = FUSIONS["gated"](tiny()), parts
    gate = torch.sigmoid(fusion.gate(torch.cat(parts, -1)))
    torch.testing.assert_close(fusion(*parts), gate * temporal + (1 - gate) * spatial)
    with torch.no_grad():
        fusion.gate.weight.zero_()
        fusion.gate.bias.fill_(50.0)
    torch.testing.assert_close(fusion(*parts), temporal)


def test_concat_is_one_linear_map(parts, tiny):
    fusion = FUSIONS["concat"](tiny(fusion_type="concat"))
    torch.testing.assert_close(fusion(*parts), fusion.project(torch.cat(parts, -1)))


def test_cross_attention_reads_the_temporal_features_of_all_steps_of_the_sensor(parts, tiny):
    fusion = FUSIONS["cross_attn"](tiny(fusion_type="cross_attn", fusion_heads=2)).eval()
    temporal, spatial = parts
    fusion(temporal, spatial)[1, 3, 0].square().sum().backward()
    heard = temporal.grad.abs().amax(-1) > 0
    assert heard[1, 3].all()
    assert heard.sum() == heard[1, 3].numel()


def test_cross_attention_has_its_own_heads_and_dropout(parts, tiny):
    fusion = FUSIONS["cross_attn"](tiny(fusion_type="cross_attn", fusion_heads=8, fusion_dropout=0.3, dropout=0.0))
    assert fusion.attention.num_heads == 8
    assert fusion.dropout.p == 0.3
    assert not torch.equal(fusion(*parts), fusion(*parts))
