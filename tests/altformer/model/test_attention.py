from __future__ import annotations

import pytest
import torch

from altformer.model import attention
from altformer.model.attention import CrossAttention, SelfAttention, attend, join_heads, split_heads
from altformer.model.positions import NoPosition


def written_out(query, key, value, heads):
    """Attention by the formula of Vaswani et al. (2017), head by head, on (r,s,d)."""
    heads_out = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
        heads_out.append(weights @ v)
    return torch.cat(heads_out, dim=-1)


def test_heads_are_joined_as_they_were_split():
    x = torch.randn(3, 7, 12)
    assert split_heads(x, 4).shape == (3, 4, 7, 3)
    assert torch.equal(join_heads(split_heads(x, 4)), x)


def test_self_attention_is_the_written_out_formula():
    layer, x = SelfAttention(12, 3), torch.randn(2, 7, 12)
    expected = layer.out(written_out(*layer.query_key_value(x).chunk(3, -1), heads=3))
    torch.testing.assert_close(layer(x, NoPosition()), expected)


def test_cross_attention_is_the_written_out_formula():
    layer, x, source = CrossAttention(12, 3), torch.randn(2, 7, 12), torch.randn(2, 4, 12)
    expected = layer.out(written_out(layer.query(x), *layer.key_value(source).chunk(2, -1), heads=3))
    torch.testing.assert_close(layer(x, source), expected)


@pytest.mark.parametrize(("queries", "keys"), [(24, 12), (48, 48), (49, 12), (12, 49), (100, 100)])
@pytest.mark.parametrize("biased", [False, True])
def test_short_and_long_rows_are_the_same_function(queries, keys, biased):
    query = torch.randn(3, 2, queries, 8, requires_grad=True)
    key, value = torch.randn(2, 3, 2, keys, 8)
    bias = torch.randn(1, 2, queries, keys) if biased else None
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    got = attend(query, key, value, bias)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(y.square().sum(), query)[0] for y in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_in_bf16_on_a_cpu_the_result_is_that_of_fp32_but_for_rounding(biased):
    query, key, value = torch.randn(3, 6, 2, 30, 8).requires_grad_().unbind()
    bias = torch.randn(1, 2, 30, 30) if biased else None
    expected = attend(query, key, value, bias)
    low = attend(*(operand.bfloat16() for operand in (query, key, value)), bias)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.02, atol=0.02)
    gradients = [torch.autograd.grad(y.float().square().sum(), query, retain_graph=True)[0] for y in (low, expected)]
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("bias_rows", [None, 1, 11], ids=["no bias", "one bias for all rows", "a bias per row"])
def test_many_rows_are_attended_in_parts_with_the_same_result(bias_rows, monkeypatch):
    query, key, value = torch.randn(3, 11, 2, 5, 4)
    bias = None if bias_rows is None else 3 * torch.randn(bias_rows, 2, 5, 5)
    whole = attend(query, key, value, bias)
    added = 0 if bias is None else bias
    weights = torch.softmax(query @ key.transpose(2, 3) / 4**0.5 + added, dim=-1)
    torch.testing.assert_close(whole, weights @ value)
    monkeypatch.setattr(attention, "is_faster_written_out", lambda *_: False)
    monkeypatch.setattr(attention, "_rows_per_call", lambda query: 4)
    calls = []

    def counted(*operands, attn_mask):
        calls.append(len(operands[0]))
        return torch.nn.functional.scaled_dot_product_attention(*operands, attn_mask=attn_mask)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", counted)
    torch.testing.assert_close(attend(query, key, value, bias), whole)
    assert calls == [4, 4, 3]
