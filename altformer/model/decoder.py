"""Between the stages: what was fused is split into a temporal and a spatial part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.model.attention import attend, join_heads, split_heads
from altformer.model.config import ModelConfig
from altformer.model.dropout import Dropout
from altformer.model.embedding import TABLE_STD, sincos_positions
from altformer.model.linear import Linear


class SpatioTemporalDecoder(nn.Module):
    """Learned queries, one per step and part, attend to the fused features of a sensor; each part adds what it reads.

    The queries start at their step's position, so that every decoded step asks for something of its own.
    (b,n,t,d) -> temporal part (b,n,t,d), spatial part (b,n,t,d).
    """

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_heads = config.num_heads
        start = sincos_positions(tokens, dim).repeat(2, 1)
        self.queries = nn.Parameter(start + TABLE_STD * torch.randn_like(start))
        self.key_value = Linear(dim, 2 * dim)
        self.temporal_out = Linear(dim, dim)
        self.spatial_out = Linear(dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Split `fused`."""
        rows = fused.flatten(0, 1)
        query = split_heads(self.queries_of(len(rows)), self.num_heads)
        key, value = (split_heads(part, self.num_heads) for part in self.key_value(rows).chunk(2, dim=-1))
        read = join_heads(attend(query, key, value))
        temporal, spatial = read.chunk(2, dim=1)
        return (
            fused + self.dropout(self.temporal_out(temporal)).view(fused.shape),
            fused + self.dropout(self.spatial_out(spatial)).view(fused.shape),
        )

    def queries_of(self, rows: int) -> Tensor:
        """The queries of each row, (r,2t,d)."""
        return self.queries.expand(rows, -1, -1)
