"""The alternating spatio-temporal Transformer.

Shapes: b batch, t input steps (tokens where patch_len > 1), n sensors, d embed_dim, h output steps, p scale of time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from altformer.errors import UserError
from altformer.model.bridge import Bridge
from altformer.model.config import ModelConfig
from altformer.model.embedding import InputEmbedding
from altformer.model.shape import ForecastShape
from altformer.model.stage import Stage


class AltFormer(nn.Module):
    """Stages of alternating temporal and spatial attention, with a decoder between each two (Phase 1 has two stages).

    With several `patch_sizes` every scale of time has its own embedding and decoders and passes through the same
    stages. Raises `UserError` when `patch_len` or a scale does not divide `input_len`.
    """

    def __init__(self, config: ModelConfig, shape: ForecastShape) -> None:
        super().__init__()
        scales = [_tokens(config, shape, size) for size in config.patch_sizes]
        self.embeddings = nn.ModuleList(InputEmbedding(config, shape, tokens) for tokens in scales)
        self.stages = nn.ModuleList([Stage(config, shape, config.depths[0])])
        self.decoders = nn.ModuleList()  # by stage they lead to, then by scale
        lender = self.stages[0] if config.share_stages else None
        for depths in config.depths[1:]:
            before = len(self.stages)
            self.decoders.append(nn.ModuleList(Bridge(config, tokens, before) for tokens in scales))
            self.stages.append(Stage(config, shape, depths, lender))  # type: ignore[arg-type]
        self.merge = PyramidMerge(config) if len(scales) > 1 else OneScale()
        self.head = FlatHead(config.embed_dim * scales[0], shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """Forecast the next h steps in scaled units, (b,h,n).

        `reading` (b,t,n) float scaled, `observed` (b,t,n) bool, `time_of_day` (b,t) slot of the day, `day_of_week`
        (b,t) with Monday 0.
        """
        # (b,t,n) and the clock
        embedded = [embed(reading, observed, time_of_day, day_of_week) for embed in self.embeddings]
        # (b,n,t,d) for each scale of time, in Phase 1 one
        fused = [self._through_stages(x, scale) for scale, x in enumerate(embedded)]
        # (b,n,t,d) for each scale
        merged = self.merge(fused)
        # (b,n,t,d)
        forecast: Tensor = self.head(merged)
        # (b,h,n)
        return forecast

    def _through_stages(self, x: Tensor, scale: int) -> Tensor:
        """One scale through all stages, (b,n,t,d) -> (b,n,t,d)."""
        outputs: list[Tensor] = [self.stages[0](x)]
        for decoders, stage in zip(self.decoders, self.stages[1:], strict=True):
            # (b,n,t,d)
            temporal_part, spatial_part = decoders[scale](x, outputs)  # type: ignore[index]
            # 2 x (b,n,t,d)
            outputs.append(stage(temporal_part, spatial_part))
        return outputs[-1]


class FlatHead(nn.Module):
    """One linear map from all steps of a sensor to its forecast. (b,n,t,d) -> (b,h,n)."""

    def __init__(self, flat_dim: int, output_len: int) -> None:
        super().__init__()
        self.linear = nn.Linear(flat_dim, output_len)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each sensor from its own tokens."""
        forecast: Tensor = self.linear(x.flatten(2)).transpose(1, 2)
        return forecast


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


def _tokens(config: ModelConfig, shape: ForecastShape, size: int) -> int:
    """Tokens of a sensor at one scale of the pyramid."""
    patch = config.patch_len * size
    if shape.input_len % patch:
        scale = f" x patch size {size}" if size > 1 else ""
        raise UserError(
            f"patch_len must divide input_len: patch_len {config.patch_len}{scale}, input_len {shape.input_len}"
        )
    return shape.input_len // patch
