from __future__ import annotations

import torch

from altformer.model.attention import join_heads, split_heads
from altformer.model.decoder import SpatioTemporalDecoder

TOKENS = 6


def made(tiny):
    torch.manual_seed(0)
    return SpatioTemporalDecoder(tiny(), TOKENS).eval(), torch.randn(2, 5, TOKENS, 16)


def test_every_step_of_a_sensor_reads_something_of_its_own(tiny):
    decoder, fused = made(tiny)
    for part in decoder(fused):
        read = part - fused
        apart = (read[..., :, None, :] - read[..., None, :, :]).abs().amax(-1)  # (b,n,t,t)
        different = apart > 1e-4
        assert different.sum() == different.numel() - different.shape[0] * different.shape[1] * TOKENS


def test_one_query_for_all_steps_would_be_noticed(tiny):
    """The earlier mistake, made on purpose: without step-aware queries every step reads the same."""
    decoder, fused = made(tiny)
    with torch.no_grad():
        decoder.queries.copy_(decoder.queries[:1].expand_as(decoder.queries))
    for part in decoder(fused):
        read = part - fused
        torch.testing.assert_close(read, read[:, :, :1].expand_as(read))


def test_the_two_parts_differ_and_both_read_all_steps_of_their_sensor_only(tiny):
    decoder, fused = made(tiny)
    fused.requires_grad_(True)
    temporal, spatial = decoder(fused)
    assert not torch.allclose(temporal, spatial, atol=1e-3)
    for part in (temporal, spatial):
        (gradient,) = torch.autograd.grad(part[1, 3, 2].square().sum(), fused, retain_graph=True)
        heard = gradient.abs().amax(-1) > 0
        assert heard[1, 3].all()
        assert heard.sum() == TOKENS


def test_the_parts_are_cross_attention_by_the_written_out_formula(tiny):
    decoder, fused = made(tiny)
    heads = decoder.num_heads
    key, value = (split_heads(part, heads) for part in decoder.key_value(fused.flatten(0, 1)).chunk(2, -1))
    query = split_heads(decoder.queries[None], heads)
    weights = torch.softmax(query @ key.transpose(2, 3) / (16 / heads) ** 0.5, dim=-1)
    read = join_heads(weights @ value)
    temporal, spatial = decoder(fused)
    torch.testing.assert_close(temporal, fused + decoder.temporal_out(read[:, :TOKENS]).view_as(fused))
    torch.testing.assert_close(spatial, fused + decoder.spatial_out(read[:, TOKENS:]).view_as(fused))
