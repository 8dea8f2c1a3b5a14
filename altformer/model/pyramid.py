"""Several scales of time joined to one. Shapes: b batch, n sensors, t tokens of the finest scale, p scale, d width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from altformer.model.config import ModelConfig


class OneScale(nn.Module):
    """Nothing to join: the only scale is the result."""

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """The one scale."""
        (only,) = scales
        return only


class PyramidMerge(nn.Module):
    """Coarser scales are repeated to the finest one's steps, then all are projected together.

    A token of scale p stands for p tokens of the finest scale and is repeated for just these.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_sizes = config.patch_sizes
        self.project = nn.Linear(len(config.patch_sizes) * config.embed_dim, config.embed_dim)

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """One (b,n,t/p,d) per scale -> (b,n,t,d)."""
        merged: Tensor = self.project(torch.cat(self.upsampled(scales), dim=-1))
        return merged

    def upsampled(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Every scale at the finest one's steps, (b,n,t,d) each."""
        return [scale.repeat_interleave(size, dim=2) for scale, size in zip(scales, self.patch_sizes, strict=True)]


def merge_of(config: ModelConfig) -> nn.Module:
    """How the scales of a configuration are joined."""
    return PyramidMerge(config) if len(config.patch_sizes) > 1 else OneScale()
