"""FLOP and bytes are those that can be written down by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape
from benchmarks.bench_counting import ProductRecorder, ceiling, ceilings, traffic
from benchmarks.bench_published import written_out
from benchmarks.bench_step import products_of


def test_a_linear_layer_is_counted_as_by_hand():
    first, second = nn.Linear(5, 7), nn.Linear(7, 2)
    with ProductRecorder() as found:
        second(first(torch.randn(3, 4, 5)))
    rows = 3 * 4
    without_gradient = 2 * rows * 5 * 7 * 2  # forward, and backward for the weights alone
    assert found.flop == without_gradient + 2 * rows * 7 * 2 * 3


def test_attention_counts_the_same_in_both_forms():
    query, key, value = (torch.randn(2, 3, s, 8, requires_grad=True) for s in (5, 9, 9))
    with ProductRecorder() as fused:
        scaled_dot_product_attention(query, key, value)
    with ProductRecorder() as written:
        written_out(query, key, value)
    assert len(fused.products) == 1 and len(written.products) == 2
    assert fused.flop == written.flop == 3 * 2 * (2 * 2 * 3 * 5 * 9 * 8)


def test_the_model_computes_what_its_sizes_say():
    b, t, n, d = 2, 12, 5, 96
    found = products_of(build_model(ModelConfig(), ForecastShape(n)), b, ForecastShape(n)).flop
    tokens, layers = b * t * n, 8
    layer = tokens * (3 * d * d + d * d + 2 * d * 4 * d)
    attention = 4 * 2 * (b * n * t * t * d) + 4 * 2 * (b * t * n * n * d)  # four layers over time, four over sensors
    gates = 2 * tokens * 2 * d * d
    decoder = tokens * (2 * d * d + 2 * d * d) + 2 * (b * n * 2 * t * t * d)
    head = b * n * t * d * 12
    learned_inputs = tokens * 2 * d * 2 * 2 + n * t * 80 * d * 3 * 2  # readings have no gradient
    assert found == 3 * 2 * (layers * layer + attention + gates + decoder + head) + learned_inputs


def test_an_addition_moves_three_tensors_and_a_view_none():
    a, b = torch.ones(10, 4), torch.ones(10, 4)
    assert traffic(lambda: a + b) == 3 * 160
    assert traffic(lambda: a.view(4, 10).transpose(0, 1)) == 0


def test_traffic_includes_the_backward_pass():
    a = torch.ones(8, requires_grad=True)
    forward = traffic(a.exp)
    assert traffic(lambda: torch.autograd.grad(a.exp(), a, torch.ones(8))) > forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_products_of_the_ceiling_can_be_timed(dtype):
    times = {name: [work()] for name, work in ceilings(dtype, side=64).items()}
    assert set(times) == {"mm", "conv"} and all(found[0] > 0 for found in times.values())


def test_the_ceiling_is_that_of_the_faster_product():
    assert ceiling({"mm": [2.0, 1.0, 3.0], "conv": [4.0, 4.0, 4.0]}, side=10) == 2 * 10**3 / 2.0
