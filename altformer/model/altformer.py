"""The alternating spatio-temporal Transformer.

Shapes: b batch, t input steps (tokens where patch_len > 1), n sensors, d embed_dim, h output steps.
"""

from __future__ import annotations

from torch import Tensor, nn

from altformer.errors import UserError
from altformer.model.config import ModelConfig
from altformer.model.decoder import SpatioTemporalDecoder
from altformer.model.embedding import InputEmbedding
from altformer.model.shape import ForecastShape
from altformer.model.stage import Stage


class AltFormer(nn.Module):
    """Two stages of alternating temporal and spatial attention with a decoder between them (Phase 1).

    Raises `UserError` when `patch_len` does not divide `input_len`.
    """

    def __init__(self, config: ModelConfig, shape: ForecastShape) -> None:
        super().__init__()
        if shape.input_len % config.patch_len:
            raise UserError(
                f"patch_len must divide input_len: patch_len {config.patch_len}, input_len {shape.input_len}"
            )
        tokens = shape.input_len // config.patch_len
        self.embedding = InputEmbedding(config, shape)
        self.stage_1 = Stage(config, config.temporal_depth_1, config.spatial_depth_1)
        self.decoder = SpatioTemporalDecoder(config, tokens)
        self.stage_2 = Stage(config, config.temporal_depth_2, config.spatial_depth_2)
        self.head = FlatHead(config.embed_dim * tokens, shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """Forecast the next h steps in scaled units, (b,h,n).

        `reading` (b,t,n) float scaled, `observed` (b,t,n) bool, `time_of_day` (b,t) slot of the day, `day_of_week`
        (b,t) with Monday 0.
        """
        # (b,t,n) and the clock
        x = self.embedding(reading, observed, time_of_day, day_of_week)
        # (b,n,t,d)
        fused = self.stage_1(x)
        # (b,n,t,d)
        temporal_part, spatial_part = self.decoder(fused)
        # 2 x (b,n,t,d)
        fused = self.stage_2(temporal_part, spatial_part)
        # (b,n,t,d)
        forecast: Tensor = self.head(fused)
        # (b,h,n)
        return forecast


class FlatHead(nn.Module):
    """One linear map from all steps of a sensor to its forecast. (b,n,t,d) -> (b,h,n)."""

    def __init__(self, flat_dim: int, output_len: int) -> None:
        super().__init__()
        self.linear = nn.Linear(flat_dim, output_len)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each sensor from its own tokens."""
        forecast: Tensor = self.linear(x.flatten(2)).transpose(1, 2)
        return forecast
