"""Multi-head attention over the second-last axis. Shapes: r independent rows, s tokens attending, d width."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from altformer.model.linear import Linear

_CUDA_GRID = 65535
_SHORT = 48  # tokens


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(r,s,d) -> (r,heads,s,d/heads), the 4-D form for which the fused kernels exist."""
    r, s, d = x.shape
    return x.view(r, s, num_heads, d // num_heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(r,heads,s,d/heads) -> (r,s,d)."""
    return x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of each row, (r,heads,s,c) -> (r,heads,s,c), in the way that is fast for its size.

    `bias` (r or 1,heads,s,s) is added to the scores before the softmax.
    """
    if is_faster_written_out(query, key, value):
        return written_out(query, key, value, bias)
    limit = _rows_per_call(query)
    if len(query) <= limit:
        return scaled_dot_product_attention(query, key, value, attn_mask=bias)
    own = bias is not None and len(bias) == len(query)
    biases = torch.split(bias, limit) if bias is not None and own else itertools.repeat(bias)
    rows = zip(*(torch.split(operand, limit) for operand in (query, key, value)), biases, strict=False)
    return torch.cat([scaled_dot_product_attention(q, k, v, attn_mask=mask) for q, k, v, mask in rows])


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by its formula: softmax(q k' / sqrt(c) + bias) v (Vaswani et al., 2017)."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, dim=-1).to(value.dtype) @ value


def is_faster_written_out(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether torch's fused kernel is slower than two products and a softmax: on a CPU in bf16, and in short rows.

    Its blocks are made for hundreds of tokens, and its backward pass has no fast bf16 product
    (`python -m benchmarks.bench_kernels` measures both).
    """
    short = max(query.shape[-2], key.shape[-2]) <= _SHORT
    return value.device.type == "cpu" and (short or value.dtype == torch.bfloat16)


def _rows_per_call(query: Tensor) -> int:
    """CUDA kernels refuse a launch grid above 65535 (pytorch issues 142228, 146704); on a CPU there is no limit."""
    return _CUDA_GRID // query.shape[1] if query.is_cuda else len(query)


class SelfAttention(nn.Module):
    """Every token of a row attends to all tokens of that row; rows never meet. (r,s,d) -> (r,s,d).

    Attention weights have no dropout, because that would rule out the fused kernels; the layer drops the output.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Tensor, position: nn.Module) -> Tensor:
        """Attend within each row of `x` (r,s,d), with what `position` knows of places (see positions.py)."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        query, key, bias = position(query, key)
        mixed: Tensor = self.out(join_heads(attend(query, key, value, bias)))
        return mixed


class CrossAttention(nn.Module):
    """Tokens of one sequence attend to those of another, row by row. (r,s,d), (r,s',d) -> (r,s,d)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dim, dim)
        self.key_value = Linear(dim, 2 * dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Let `x` (r,s,d) read from `source` (r,s',d)."""
        query = split_heads(self.query(x), self.num_heads)
        key, value = (split_heads(part, self.num_heads) for part in self.key_value(source).chunk(2, dim=-1))
        mixed: Tensor = self.out(join_heads(attend(query, key, value)))
        return mixed
