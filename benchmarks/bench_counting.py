"""What a step computes and moves, and what the machine could: FLOP, bytes, matrix products, memory bandwidth.

A product counts 2 FLOP per multiplication and addition: forward once, backward once for each operand that has a
gradient. Nothing else counts, nor what a kernel computes a second time. Traffic is what every operator would read and
write if it fetched each operand once from memory and kept nothing in a cache: what stays in one makes it an upper
bound.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from altformer.model.linear import linear
from benchmarks.bench_pairs import seconds

SIDE = 2048  # of the matrices whose product is the ceiling
_IMAGES = 32
_TRIAD_FLOATS = 1 << 25  # 128 MB each, far more than the caches hold
_MATMULS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)


@dataclass(frozen=True)
class Product:
    """One matrix product or attention of a model: shapes of its operands, and whether the first has a gradient."""

    call: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    first_has_grad: bool

    @property
    def flop(self) -> int:
        """Of forward and backward together."""
        first, second = self.shapes[0], self.shapes[1]
        if self.call is functional.scaled_dot_product_attention:
            *batch, queries, width = first
            return 3 * 2 * 2 * math.prod(batch) * queries * second[-2] * width
        others = second[0] if self.call is functional.linear else second[-1]
        return (3 if self.first_has_grad else 2) * 2 * math.prod(first) * others

    def prepare(self, pool: dict[tuple[int, ...], Tensor]) -> Callable[[], None]:
        """The call with its operands made; `pool` holds the tensors that are only read, which may be shared."""
        call = linear if self.call is functional.linear else self.call  # as the model computes it
        operands = [torch.randn(shape, requires_grad=True) for shape in self.shapes]
        if not self.first_has_grad:
            operands[0].requires_grad_(False)
        learned = [operand for operand in operands if operand.requires_grad]
        with torch.no_grad():
            shape = tuple(call(*operands).shape)
        gradient = pool.setdefault(shape, torch.randn(shape))

        def forward_and_backward() -> None:
            torch.autograd.grad(call(*operands), learned, gradient)

        return forward_and_backward


class ProductRecorder(TorchFunctionMode):
    """Notes the matrix products and attentions of what runs within it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    @property
    def flop(self) -> int:
        """Of a training step whose forward pass ran within it once."""
        return sum(product.flop for product in self.products)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear:
            x, weight = args[0], args[1]
            rows = x.numel() // x.shape[-1]
            self._note(functional.linear, ((rows, x.shape[-1]), tuple(weight.shape)), x.requires_grad)
        elif func is functional.scaled_dot_product_attention:
            self._note(func, tuple(tuple(operand.shape) for operand in args[:3]), True)
        elif func in _MATMULS:
            self._note(torch.matmul, (tuple(args[0].shape), tuple(args[1].shape)), args[0].requires_grad)
        return func(*args, **(kwargs or {}))

    def _note(self, call: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...], first_has_grad: bool) -> None:
        self.products.append(Product(call, shapes, first_has_grad))


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Adds up the bytes that operators read and write; a view reads and writes nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def traffic(work: Callable[[], object]) -> int:
    """Bytes that the operators of one call read and write."""
    counted = _Traffic()
    with counted:
        work()
    return counted.bytes


def ceilings(dtype: torch.dtype, side: int = SIDE) -> dict[str, Callable[[], float]]:
    """Square matrix products of `side`, each as a work that returns its seconds, by the name of what computes it.

    `mm` is torch's own way, on x86 MKL for float32; `conv` a 1 x 1 convolution, which oneDNN computes: which of the two
    is faster depends on whose processor it is.
    """
    a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    images = a.view(_IMAGES, side // _IMAGES, 1, side).permute(0, 3, 1, 2)
    works: dict[str, Callable[[], object]] = {
        "mm": lambda: torch.mm(a, b),
        "conv": lambda: torch.conv2d(images, b[:, :, None, None]),
    }
    return {name: partial(seconds, work) for name, work in works.items()}


def ceiling(times: Mapping[str, list[float]], side: int = SIDE) -> float:
    """FLOP/s of the fastest of these products, each at its median."""
    return 2 * side**3 / min(statistics.median(found) for found in times.values())


def bandwidth() -> tuple[Callable[[], float], int]:
    """A work that reads two large arrays and writes a third (seconds), and the bytes it moves."""
    a, b = (torch.ones(_TRIAD_FLOATS) for _ in range(2))
    out = torch.empty(_TRIAD_FLOATS)
    return partial(seconds, lambda: torch.add(a, b, alpha=3.0, out=out)), 3 * 4 * _TRIAD_FLOATS
