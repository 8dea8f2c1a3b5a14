"""One alternation: time, then space, then both joined."""

from __future__ import annotations

from torch import Tensor, nn

from altformer.model.config import ModelConfig
from altformer.model.encoder import SpatialEncoder, TemporalEncoder
from altformer.model.fusion import FUSIONS


class Stage(nn.Module):
    """Temporal encoder -> spatial encoder -> fusion of what the two produced. (b,n,t,d) -> (b,n,t,d)."""

    def __init__(self, config: ModelConfig, temporal_depth: int, spatial_depth: int) -> None:
        super().__init__()
        width = (config.embed_dim, config.num_heads, config.mlp_ratio, config.dropout)
        self.temporal = TemporalEncoder(temporal_depth, *width)
        self.spatial = SpatialEncoder(spatial_depth, *width)
        self.fusion = FUSIONS[config.fusion_type](config)

    def forward(self, temporal_part: Tensor, spatial_part: Tensor | None = None) -> Tensor:
        """Alternate over the sum of the two parts; the spatial part, where there is one, reaches both encoders."""
        if spatial_part is None:
            temporal = self.temporal(temporal_part)
            spatial = self.spatial(temporal)
        else:
            temporal = self.temporal(temporal_part + spatial_part)
            spatial = self.spatial(temporal + spatial_part)
        fused: Tensor = self.fusion(temporal, spatial)
        return fused
