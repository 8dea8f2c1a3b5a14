"""What is left out at random while training: single values, or whole branches of a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 1 << 16
_VALUES_PER_DRAW = 4


class Dropout(nn.Module):
    """Zero each value with probability `p` while training and scale the others up (Srivastava et al., 2014).

    On a CPU torch draws one Bernoulli number per value, which costs five times as much as the rest of dropout. Here
    each 64-bit draw serves four values, so that `p` is rounded to a multiple of 2**-16 (and the scale with it), and is
    never more than 1 - 2**-16: some value stays to be scaled up, however near to 1 `p` is.
    Elsewhere, and when compiled, torch's own dropout is the fast one.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, unchanged in evaluation or where `p` is 0."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return functional.dropout(x, self.p)
        return x * scaled_mask(x, self.p)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"p={self.p}"


class StochasticDepth(nn.Module):
    """Leave a residual branch out, row by row, with probability `p` while training (Huang et al., 2016).

    What stays is scaled up by 1 / (1 - p), so that evaluation needs no correction.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """(r,...), unchanged in evaluation or where `p` is 0."""
        if not self.training or self.p == 0:
            return branch
        return branch * self.scaled_mask(branch)

    def scaled_mask(self, branch: Tensor) -> Tensor:
        """0 or 1 / (1 - p) for each row, (r,1,...)."""
        keep = torch.rand(len(branch), *[1] * (branch.dim() - 1), device=branch.device) >= self.p
        return (keep / (1 - self.p)).to(branch.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"p={self.p}"


def scaled_mask(like: Tensor, p: float) -> Tensor:
    """0 with probability `p`, else 1 / (1 - p); shape and type of `like`, drawn from torch's CPU generator."""
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    draws = torch.empty(-(-like.numel() // _VALUES_PER_DRAW), dtype=torch.int64).random_(-(2**63), None)
    level = draws.view(torch.int16)[: like.numel()].view(like.shape)
    keep = torch.empty(like.shape, dtype=like.dtype)
    # Written straight into the float mask: a boolean one would be read and converted once more.
    return torch.ge(level, dropped - _LEVELS // 2, out=keep).mul_(_LEVELS / (_LEVELS - dropped))
