"""Linear maps of many tokens on a CPU, computed by oneDNN: on processors that are not Intel's, MKL uses half of theirs.

A linear map is a convolution with a 1 x 1 kernel, which torch gives to oneDNN forward and backward, while it gives
float32 matrix products to MKL (`python -m benchmarks.bench_kernels` measures both; `torch.backends.mkldnn.flags` with
`enabled=False` leaves all to MKL). r: rows (tokens), k: inputs, m: outputs, i: images
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_WORK = 1 << 25  # multiplications; below, the call costs more than it saves
_MOST_IMAGES, _FEWEST_IMAGES = 256, 17  # torch leaves a batch of up to 16 images to its own slow kernel


class Linear(nn.Linear):
    """As torch's; where that is faster, by way of a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(...,k) -> (...,m)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(...,k) times the transpose of `weight` (m,k), plus `bias` (m) -> (...,m)."""
    if not is_convolved(x, len(weight)):
        return functional.linear(x, weight, bias)
    return convolved(x, weight, bias)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by way of a convolution; the number of rows must be one that `images` can part."""
    y: Tensor = _Convolved.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], -1)


def is_convolved(x: Tensor, outputs: int) -> bool:
    """Whether a linear map of `x` (...,k) to so many outputs goes this way."""
    return bool(
        not torch.compiler.is_compiling()  # first: the compiler cannot look into the others
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() * outputs >= LEAST_WORK
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and images(x.numel() // x.shape[-1]) > 0
    )


@cache
def images(rows: int) -> int:
    """In how many equal parts the rows are computed, the most that are allowed; 0 where they cannot be."""
    return next((count for count in range(_MOST_IMAGES, _FEWEST_IMAGES - 1, -1) if rows % count == 0), 0)


def feed_forward(x: Tensor, widen: nn.Linear, narrow: nn.Linear) -> Tensor:
    """(r,k) -> (r,k) by way of a wider ReLU layer; `x` must be one that `is_convolved`."""
    weights = widen.weight, widen.bias, narrow.weight, narrow.bias
    y: Tensor = _FeedForward.apply(x, *weights)  # type: ignore[no-untyped-call]
    return y


def _as_images(x: Tensor) -> Tensor:
    """(r,k) -> (i,k,r/i,1), the same memory with channels last."""
    count = images(len(x))
    return x.view(count, len(x) // count, 1, x.shape[1]).permute(0, 3, 1, 2)


def _as_rows(x: Tensor) -> Tensor:
    """(i,k,r/i,1) -> (r,k)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _as_rows(torch.conv2d(_as_images(x), weight[:, :, None, None], bias))


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, needed: list[bool]) -> tuple[Any, ...]:
    """Gradients of input, weight and bias, where they are needed."""
    kernel = weight[:, :, None, None]
    of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
        _as_images(gradient), _as_images(x), kernel, [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, needed
    )
    return None if of_x is None else _as_rows(of_x), of_weight.flatten(1), of_bias


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        return _backward(gradient.contiguous(), x, weight, [ctx.needs_input_grad[0], True, ctx.has_bias])


class _FeedForward(torch.autograd.Function):
    """In one, so that the ReLU and its gradient change the widened rows in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, wide: Tensor, wide_bias: Tensor, narrow: Tensor, narrow_bias: Tensor) -> Tensor:
        hidden = _forward(x, wide, wide_bias).relu_()
        ctx.save_for_backward(x, hidden, wide, narrow)
        return _forward(hidden, narrow, narrow_bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, hidden, wide, narrow = ctx.saved_tensors
        of_hidden, of_narrow, of_narrow_bias = _backward(gradient.contiguous(), hidden, narrow, [True, True, True])
        torch.ops.aten.threshold_backward.grad_input(of_hidden, hidden, 0, grad_input=of_hidden)
        of_x, of_wide, of_wide_bias = _backward(of_hidden, x, wide, [ctx.needs_input_grad[0], True, True])
        return of_x, of_wide, of_wide_bias, of_narrow, of_narrow_bias
