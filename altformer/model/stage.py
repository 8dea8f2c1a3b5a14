"""One alternation: time, then space, then both joined."""

from __future__ import annotations

from torch import Tensor, nn

from altformer.model.config import ModelConfig
from altformer.model.encoder import SPATIAL_ENCODERS, TemporalEncoder
from altformer.model.fusion import FUSIONS
from altformer.model.positions import spatial_position, temporal_position
from altformer.model.shape import ForecastShape


class Stage(nn.Module):
    """Temporal encoder -> spatial encoder -> fusion of what the two produced. (b,n,t,d) -> (b,n,t,d).

    An encoder of depth 0 passes on what it is given.
    `lender` is the stage whose encoders this one uses, where weights are shared; the fusion is always its own.
    """

    temporal: nn.Module
    spatial: nn.Module

    def __init__(
        self, config: ModelConfig, shape: ForecastShape, depths: tuple[int, int], lender: Stage | None = None
    ) -> None:
        super().__init__()
        if lender is None:
            tokens = shape.input_len // config.patch_len
            self.temporal = self.spatial = nn.Identity()
            if depths[0]:
                self.temporal = TemporalEncoder(config, depths[0], temporal_position(config, tokens))
            if depths[1]:
                spatial = SPATIAL_ENCODERS[config.spatial_impl]
                self.spatial = spatial(config, depths[1], spatial_position(config, shape))
        else:
            # Past the module's own registration: the lender owns the weights, so that they are counted and saved once.
            object.__setattr__(self, "temporal", lender.temporal)
            object.__setattr__(self, "spatial", lender.spatial)
        self.fusion = FUSIONS[config.fusion_type](config)
        self.alternates = config.encoder_order == "alternating"

    def forward(self, temporal_part: Tensor, spatial_part: Tensor | None = None) -> Tensor:
        """Alternate over the sum of the two parts; the spatial part, where there is one, reaches both encoders.

        In parallel order the spatial encoder reads the stage's input instead of what the temporal one made of it.
        """
        entering = temporal_part if spatial_part is None else temporal_part + spatial_part
        temporal = self.temporal(entering)
        if not self.alternates:
            spatial = self.spatial(entering)
        elif spatial_part is None:
            spatial = self.spatial(temporal)
        else:
            spatial = self.spatial(temporal + spatial_part)
        fused: Tensor = self.fusion(temporal, spatial)
        return fused
