from __future__ import annotations

import pytest
import torch

from altformer.errors import UserError
from altformer.model.altformer import OneScale, PyramidMerge

SIZES = (1, 2, 4)


def test_a_coarse_token_stands_at_the_steps_it_was_made_of(tiny):
    scales = [torch.arange(12 // p).float().view(1, 1, -1, 1).expand(1, 1, -1, 16) for p in SIZES]
    merge = PyramidMerge(tiny(patch_sizes=SIZES))
    for size, scale in zip(SIZES, merge.upsampled(scales), strict=True):
        assert scale.shape == (1, 1, 12, 16)
        for token in range(12 // size):
            assert (scale[:, :, token * size : (token + 1) * size] == token).all()


def test_the_scales_are_merged_by_one_linear_map(tiny):
    merge = PyramidMerge(tiny(patch_sizes=SIZES))
    scales = [torch.randn(2, 5, 12 // p, 16) for p in SIZES]
    merged = merge(scales)
    for step in (0, 5, 11):
        side_by_side = torch.cat([scale[:, :, step // p] for p, scale in zip(SIZES, scales, strict=True)], -1)
        torch.testing.assert_close(merged[:, :, step], merge.project(side_by_side))


def test_one_scale_is_left_as_it_is(build):
    merge, x = build().merge, torch.randn(2, 5, 12, 16)
    assert isinstance(merge, OneScale)
    assert merge([x]) is x


@pytest.mark.parametrize("patch_len", [1, 3])
@pytest.mark.parametrize("step", [0, 4, 11])
def test_a_reading_moves_only_the_tokens_that_contain_it(patch_len, step, build, draw):
    model, (reading, observed, *clock) = build(patch_sizes=SIZES, patch_len=patch_len), draw()
    changed = reading.clone()
    changed[1, step, 3] += 1
    observed = torch.ones_like(observed)
    for size, embed in zip(SIZES, model.embeddings, strict=True):
        difference = (embed(changed, observed, *clock) - embed(reading, observed, *clock)).abs().amax(-1)
        assert difference.shape[2] == reading.shape[1] // (patch_len * size)
        assert difference.nonzero().tolist() == [[1, 3, step // (patch_len * size)]]


def test_all_scales_pass_through_the_same_stages_with_decoders_of_their_own(build, draw):
    model, tokens = build(num_stages=3, patch_sizes=SIZES), []
    for stage in model.stages:
        stage.register_forward_hook(lambda _module, entered, _left: tokens.append(entered[0].shape[2]))
    model(*draw())
    assert len(model.stages) == 3
    assert sorted(tokens) == sorted([12, 6, 3] * 3)
    assert [[bridge.decoder.queries.shape[0] for bridge in bridges] for bridges in model.decoders] == [[24, 12, 6]] * 2


def test_the_pyramid_is_its_parts_written_out(build, draw):
    model = build(patch_sizes=(1, 2))
    fused = []
    for scale, embed in enumerate(model.embeddings):
        first = model.stages[0](embed(*draw()))
        fused.append(model.stages[1](*model.decoders[0][scale].decoder(first)))
    merged = model.merge.project(torch.cat([fused[0], fused[1].repeat_interleave(2, 2)], -1))
    torch.testing.assert_close(model(*draw()), model.head(merged))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_sizes": (1, 5)}, "must divide input_len: patch_len 1 x patch size 5, input_len 12"),
        ({"patch_sizes": (1, 2, 4), "patch_len": 2}, "must divide input_len: patch_len 2 x patch size 4, input_len 12"),
    ],
)
def test_a_scale_that_does_not_divide_the_window_is_refused(fields, message, build):
    with pytest.raises(UserError, match=message):
        build(**fields)
