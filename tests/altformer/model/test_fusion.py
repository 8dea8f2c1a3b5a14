from __future__ import annotations

import pytest
import torch

from altformer.model.fusion import FUSIONS

KINDS = sorted(FUSIONS)


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
