from __future__ import annotations

import math

import pytest
import torch

from altformer.model.dropout import Dropout, StochasticDepth, scaled_mask


@pytest.mark.parametrize("p", [0.1, 0.12, 0.5, 0.9])
def test_each_value_is_dropped_with_the_given_chance_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    size = 1_000_001  # not a multiple of the values per draw
    dropped = Dropout(p)(torch.ones(size))
    spread = (p * (1 - p) / size) ** 0.5
    assert abs((dropped == 0).float().mean().item() - p) < 5 * spread
    assert abs(dropped.mean().item() - 1) < 5 * spread / (1 - p)
    assert dropped.unique().numel() == 2


@pytest.mark.parametrize("p", [1 - 2**-16, 1 - 2**-17, 1 - 2**-40, math.nextafter(1, 0)])
def test_even_next_to_one_some_values_stay_and_all_are_finite(p):
    torch.manual_seed(0)
    mask = scaled_mask(torch.ones(1_000_000), p)
    assert sorted(mask.unique().tolist()) == [0, 2**16]


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8])
def test_neighbours_are_dropped_independently(lag):
    torch.manual_seed(0)
    zero = (scaled_mask(torch.ones(1_000_000), 0.5) == 0).float()
    both = (zero[:-lag] * zero[lag:]).mean().item()
    assert abs(both - 0.25) < 5 * (0.25 * 0.75 / 1e6) ** 0.5


def test_the_gradient_passes_where_the_value_passed():
    torch.manual_seed(0)
    x = torch.randn(50, 40, requires_grad=True)
    kept = Dropout(0.4)(x)
    kept.sum().backward()
    assert torch.equal(x.grad == 0, kept == 0)
    torch.testing.assert_close(x.grad[kept != 0], torch.full_like(x.grad[kept != 0], 1 / 0.6), rtol=1e-4, atol=0)


def test_the_seed_decides_the_mask():
    x = torch.randn(9, 5)
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(x))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_type_are_kept(dtype):
    x = torch.randn(3, 5, 2, dtype=dtype).transpose(0, 1)
    dropped = Dropout(0.5)(x)
    assert dropped.shape == x.shape
    assert dropped.dtype == dtype


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x
    state = torch.get_rng_state()
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


# Whole branches


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_whole_rows_are_left_out_with_the_given_chance_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    rows = 100_000
    left = StochasticDepth(p)(torch.ones(rows, 3, 2))
    row = left[:, 0, 0]
    assert torch.equal(left, row[:, None, None].expand_as(left))
    spread = (p * (1 - p) / rows) ** 0.5
    assert abs((row == 0).float().mean().item() - p) < 5 * spread
    assert abs(row.mean().item() - 1) < 5 * spread / (1 - p)
    torch.testing.assert_close(row[row != 0], torch.full_like(row[row != 0], 1 / (1 - p)))


def test_each_call_draws_anew_and_the_seed_decides():
    branch, drawn = torch.ones(64, 2), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(StochasticDepth(0.5)(branch))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    depth = StochasticDepth(0.5)
    assert not torch.equal(depth(branch), depth(branch))


def test_no_branch_is_left_out_in_evaluation_or_at_zero():
    x = torch.randn(100, 2)
    assert StochasticDepth(0.5).eval()(x) is x
    state = torch.get_rng_state()
    assert StochasticDepth(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_a_branch_keeps_its_type():
    assert StochasticDepth(0.5)(torch.ones(8, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
